//! A simulated AT network for tests, benchmarks and the demonstration, and the private servers they stand on.

pub mod network;

pub mod servers;
