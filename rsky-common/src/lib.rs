//! What more than one daemon must agree on, and nothing else.
//!
//! | stage of an event's life | folder |
//! |---|---|
//! | bytes of the network: frames, CARs, DAG-CBOR | [`cbor`], [`atproto`] |
//! | the JSON that travels through Redis | [`wire`] |
//! | Redis: connections, writing behind a gate, consumer groups, dead letters | [`redis`] |
//! | whole repositories: blocks, commit, signature, tree | [`repo`] |
//! | who an account is, and which addresses may be asked | [`identity`], [`net`] |
//! | Postgres (with the feature of this name): connections, transactions | `postgres` |
//! | the wall clock and the calendar | [`clock`] |
//! | how a daemon is configured, starts, reports and stops | [`config`], [`runtime`], [`admin`] |
//! | what a daemon stands on, looked at for people | [`doctor`] |

pub mod clock;

pub mod cbor;

pub mod atproto;

pub mod repo;

pub mod identity;

pub mod net;

pub mod wire;

pub mod redis;

#[cfg(feature = "postgres")]
pub mod postgres;

pub mod config;
pub mod manual;

pub mod runtime;

pub mod admin;

pub mod doctor;
