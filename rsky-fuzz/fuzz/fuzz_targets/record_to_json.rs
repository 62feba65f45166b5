#![no_main]

rsky_fuzz::fuzz!(record_to_json);
