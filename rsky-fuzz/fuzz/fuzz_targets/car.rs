#![no_main]

rsky_fuzz::fuzz!(car);
