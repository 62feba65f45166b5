//! The simulated network, seen from a client.

mod client;
mod http;
mod load;
mod misbehaviour;
mod program;
mod streams;
mod wrong;
