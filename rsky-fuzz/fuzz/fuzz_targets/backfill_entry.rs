#![no_main]

rsky_fuzz::fuzz!(backfill_entry);
