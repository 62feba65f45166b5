#![no_main]

rsky_fuzz::fuzz!(label_entry);
