//! What more than one daemon must agree on, and nothing else.
//!
//! | stage of an event's life | folder |
//! |---|---|
//! | bytes of the network: frames, CARs, DAG-CBOR | [`cbor`], [`atproto`] |
//! | the JSON that travels through Redis | [`wire`] |
//! | Redis: connections, writing behind a gate, consumer groups, dead letters | [`redis`] |
//! | how a daemon is configured, starts, reports and stops | [`config`], [`runtime`], [`admin`] |

pub mod cbor;

pub mod atproto;

pub mod wire;

pub mod redis;

pub mod config;

pub mod runtime;

pub mod admin;
