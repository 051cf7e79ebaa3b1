//! Writes record batches, right or wrong.

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::io::Write;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Codec {
    None,
    Gzip,
    SnappyRaw,
    SnappyXerial,
    Lz4(BlockMode, BlockSize, bool),
    Zstd,
}

pub const ALL: [Codec; 9] = [
    Codec::None,
    Codec::Gzip,
    Codec::SnappyRaw,
    Codec::SnappyXerial,
    Codec::Lz4(BlockMode::Independent, BlockSize::Max64KB, false),
    Codec::Lz4(BlockMode::Linked, BlockSize::Max64KB, false),
    Codec::Lz4(BlockMode::Linked, BlockSize::Max256KB, true),
    Codec::Lz4(BlockMode::Independent, BlockSize::Max4MB, true),
    Codec::Zstd,
];

impl Codec {
    fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::SnappyRaw | Self::SnappyXerial => 2,
            Self::Lz4(..) => 3,
            Self::Zstd => 4,
        }
    }

    fn pack(self, plain: &[u8]) -> Vec<u8> {
        match self {
            Self::None => plain.to_vec(),
            Self::Gzip => {
                let mut out =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
            Self::SnappyRaw => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
            Self::SnappyXerial => {
                let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
                for block in plain.chunks(32 << 10) {
                    let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
                    out.extend((block.len() as u32).to_be_bytes());
                    out.extend(block);
                }
                out
            }
            Self::Lz4(mode, size, checks) => {
                let info = FrameInfo::new()
                    .block_mode(mode)
                    .block_size(size)
                    .block_checksums(checks)
                    .content_checksum(checks)
                    .content_size(checks.then_some(plain.len() as u64));
                let mut out = FrameEncoder::with_frame_info(info, Vec::new());
                out.write_all(plain).unwrap();
                out.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(plain, 1).unwrap(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Record {
    pub offset_delta: i64,
    pub timestamp_delta: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    pub fn new(offset_delta: i64, value: Option<&[u8]>) -> Self {
        Self {
            offset_delta,
            timestamp_delta: offset_delta * 10,
            key: None,
            value: value.map(<[u8]>::to_vec),
            headers: Vec::new(),
        }
    }

    fn write(&self) -> Vec<u8> {
        let mut body = vec![0];
        varint(&mut body, self.timestamp_delta);
        varint(&mut body, self.offset_delta);
        string(&mut body, self.key.as_deref());
        string(&mut body, self.value.as_deref());
        varint(&mut body, self.headers.len() as i64);
        for (name, value) in &self.headers {
            string(&mut body, Some(name.as_bytes()));
            string(&mut body, value.as_deref());
        }
        let mut out = Vec::new();
        varint(&mut out, body.len() as i64);
        out.extend(body);
        out
    }
}

pub fn varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = (value << 1 ^ value >> 63) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn string(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    varint(out, bytes.map_or(-1, |b| b.len() as i64));
    out.extend(bytes.unwrap_or_default());
}

#[derive(Debug, Clone)]
pub struct Batch {
    pub base: i64,
    pub codec: Codec,
    /// Bits besides the codec's.
    pub attributes: i16,
    /// Of a compacted batch it is larger than that of the last record.
    pub last_offset_delta: Option<i32>,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer: i64,
    pub count: Option<i32>,
    pub records: Vec<Record>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            base: 0,
            codec: Codec::None,
            attributes: 0,
            last_offset_delta: None,
            base_timestamp: 1_000,
            max_timestamp: 9_000,
            producer: -1,
            count: None,
            records: Vec::new(),
        }
    }
}

pub const APPEND_TIME: i16 = 0x08;
pub const TRANSACTIONAL: i16 = 0x10;
pub const CONTROL: i16 = 0x20;

impl Batch {
    pub fn write(&self) -> Vec<u8> {
        let plain: Vec<u8> = self.records.iter().flat_map(Record::write).collect();
        self.with_payload(&self.codec.pack(&plain))
    }

    /// A batch whose records are `payload`, whatever that is.
    pub fn with_payload(&self, payload: &[u8]) -> Vec<u8> {
        let last = self.records.last().map_or(0, |r| r.offset_delta as i32);
        let mut out = Vec::new();
        out.extend(self.base.to_be_bytes());
        out.extend((49 + payload.len() as i32).to_be_bytes());
        out.extend(7_i32.to_be_bytes());
        out.push(2);
        out.extend(0_u32.to_be_bytes());
        out.extend((self.codec.number() | self.attributes).to_be_bytes());
        out.extend(self.last_offset_delta.unwrap_or(last).to_be_bytes());
        out.extend(self.base_timestamp.to_be_bytes());
        out.extend(self.max_timestamp.to_be_bytes());
        out.extend(self.producer.to_be_bytes());
        out.extend(0_i16.to_be_bytes());
        out.extend(0_i32.to_be_bytes());
        let count = self.count.unwrap_or(self.records.len() as i32);
        out.extend(count.to_be_bytes());
        out.extend(payload);
        seal(&mut out);
        out
    }

    /// The end of a producer's transaction.
    pub fn marker(base: i64, producer: i64, abort: bool) -> Self {
        let mut record = Record::new(0, Some(&[0, 0, 0, 0, 0, 0]));
        record.key = Some(vec![0, 0, 0, u8::from(!abort)]);
        Self {
            base,
            producer,
            attributes: TRANSACTIONAL | CONTROL,
            records: vec![record],
            ..Self::default()
        }
    }
}

/// Makes the CRC right again.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}
