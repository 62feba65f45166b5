#![no_main]

rsky_fuzz::fuzz!(at_uri);
