#![no_main]

rsky_fuzz::fuzz!(did_document);
