#![no_main]

rsky_fuzz::fuzz!(listing_page);
