#![no_main]

rsky_fuzz::fuzz!(event_entry);
