//! What the tests share: a real broker, a plain client beside the engine's own.
#![allow(dead_code, reason = "each helper is used by some of the tests")]

pub mod broker;
pub mod client;
pub mod dice;
pub mod s3;
pub mod sim;
pub mod wire;

pub use broker::Broker;
pub use dice::Dice;
pub use s3::S3;
