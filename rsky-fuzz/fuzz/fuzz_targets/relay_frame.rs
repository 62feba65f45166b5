#![no_main]

rsky_fuzz::fuzz!(relay_frame);
