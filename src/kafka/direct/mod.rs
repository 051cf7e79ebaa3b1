//! The second client behind the batch contract: Fetch requests of our own, for the data path
//! alone. Offsets, metadata for planning and everything that is written stay with librdkafka.
//!
//! One thread, the worker's, does everything within `Reader::poll`: connections do not block,
//! and to each broker one Fetch request is under way at any time, sent before what the one before
//! brought is unpacked. So the broker and the network work while the worker computes.
//!
//! A response stays in the frame that it came in; batches are unpacked from there into the buffer
//! of a chunk, where the values stay. A value is copied once at most: where it is unpacked.

pub mod aborted;
mod codes;
mod connection;
pub mod fault;
mod link;
pub mod lz4;
mod messages;
mod network;
mod oauth;
mod partition;
mod reader;
pub mod records;
mod responses;
mod sasl;
pub mod sets;
mod settings;
mod stream;
mod tls;
pub mod unpack;
mod wire;

#[cfg(test)]
mod tests;

pub use reader::DirectReader;
pub use settings::unsupported;
