#![no_main]

rsky_fuzz::fuzz!(json_to_record);
