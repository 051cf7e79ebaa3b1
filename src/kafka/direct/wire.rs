//! The primitive types of Kafka's protocol, read with bounds and written. In the flexible versions
//! of a message lengths are varints, one more than they say, and tagged fields may follow each
//! structure.

use crate::kafka::topic_ids::TopicId;

/// What came over the network is not what the protocol promises. The text says what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

pub type Result<T> = std::result::Result<T, Malformed>;

const SHORT: Malformed = Malformed("ends in the middle of a field");

/// Reads a response, front to back.
#[derive(Debug, Clone)]
pub struct In<'a> {
    bytes: &'a [u8],
    position: usize,
    flexible: bool,
}

impl<'a> In<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            flexible: false,
        }
    }

    /// The body of a response in a flexible version, which may have tagged fields in front.
    pub fn flexible(&mut self) -> Result<()> {
        self.flexible = true;
        self.tags()
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.position.checked_add(count).ok_or(SHORT)?;
        let taken = self.bytes.get(self.position..end).ok_or(SHORT)?;
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| SHORT)
    }

    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.array::<1>()?[0] != 0)
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn varint(&mut self) -> Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.array::<1>()?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(value).map_err(|_| SHORT);
            }
        }
        Err(Malformed("holds a number that is too long"))
    }

    /// The length of bytes or of an array; `None` for one that is not there.
    fn length(&mut self) -> Result<Option<usize>> {
        match self.flexible {
            true => Ok(self.varint()?.checked_sub(1)),
            false => Ok(usize::try_from(self.i32()?).ok()),
        }
    }

    /// Passes over tagged fields: none is of use here.
    pub fn tags(&mut self) -> Result<()> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let length = self.varint()?;
                self.take(length)?;
            }
        }
        Ok(())
    }

    pub fn topic_id(&mut self) -> Result<Option<TopicId>> {
        Ok(TopicId::new(self.array()?))
    }

    pub fn nullable_string(&mut self) -> Result<Option<&'a str>> {
        let length = match self.flexible {
            true => self.length()?,
            false => usize::try_from(self.i16()?).ok(),
        };
        let Some(length) = length else {
            return Ok(None);
        };
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| Malformed("a string is no UTF-8"))
    }

    /// A string; one that is not there counts as empty.
    pub fn string(&mut self) -> Result<&'a str> {
        Ok(self.nullable_string()?.unwrap_or_default())
    }

    /// Bytes; those that are not there count as empty.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        match self.length()? {
            Some(length) => self.take(length),
            None => Ok(&[]),
        }
    }

    /// The number of elements of an array, each of at least `size` bytes: so a count that lies
    /// is found before anybody makes room for it. An array that is not there counts as empty.
    pub fn count(&mut self, size: usize) -> Result<usize> {
        let count = self.length()?.unwrap_or(0);
        match count.checked_mul(size) {
            Some(bytes) if bytes <= self.left() => Ok(count),
            _ => Err(Malformed("an array is longer than its response")),
        }
    }
}

/// Writes one request, with its length in front.
#[derive(Debug)]
pub struct Out {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Out {
    /// Begins with the request header, version 1.
    pub fn request(api: i16, version: i16, correlation: i32, client: &str) -> Self {
        let mut out = Self {
            bytes: vec![0; 4],
            flexible: false,
        };
        out.i16(api);
        out.i16(version);
        out.i32(correlation);
        out.string(client);
        out
    }

    /// Begins with the request header, version 2, of messages in flexible versions.
    pub fn flexible(api: i16, version: i16, correlation: i32, client: &str) -> Self {
        let mut out = Self::request(api, version, correlation, client);
        out.flexible = true;
        out.tags();
        out
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// The number of elements of an array.
    pub fn count(&mut self, count: usize) {
        match self.flexible {
            true => self.varint(count + 1),
            false => self.i32(count as i32),
        }
    }

    /// No tagged fields.
    pub fn tags(&mut self) {
        if self.flexible {
            self.bytes.push(0);
        }
    }

    /// Zero stands for none.
    pub fn topic_id(&mut self, id: Option<TopicId>) {
        let bytes = id.map_or([0; 16], TopicId::bytes);
        self.bytes.extend_from_slice(&bytes);
    }

    pub fn bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    pub fn i8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Names of more than 32,767 bytes do not exist in Kafka; longer ones are cut there, and the
    /// broker does not know what is left.
    pub fn string(&mut self, value: &str) {
        let bytes = &value.as_bytes()[..value.len().min(i16::MAX as usize)];
        match self.flexible {
            true => self.varint(bytes.len() + 1),
            false => self.i16(bytes.len() as i16),
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.i32(value.len() as i32);
        self.bytes.extend_from_slice(value);
    }

    /// The request as it goes over the network.
    pub fn finish(mut self) -> Vec<u8> {
        let length = (self.bytes.len() - 4) as i32;
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.bytes
    }
}
