//! Object stores (S3 and what speaks like it, Google Cloud Storage, Azure), asked synchronously.
//!
//! A [`Remote`] is a URL and what lies below it. Each operation is repeated for a while when the
//! store is away, and says once that it waits; a refusal (credentials, a bucket that is not there)
//! is an error at once. The crate below is asynchronous; its runtime and its one thread are here.

mod fault;
mod open;
#[cfg(test)]
pub(crate) mod tests;

pub use fault::hint;
pub use open::{Keys, is_url};

use crate::error::{Error, Result};
use bytes::Bytes;
use fault::{Fault, is_passing};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::{Path, PathPart};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// How long an operation is repeated while the store is away.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Larger objects travel in parts of this size, several at once. Every store takes such parts, and
/// a slow line (300 kB/s) moves one within a request's time-out.
const PART: usize = 8 << 20;
/// An object up to this size travels in one request.
const ONE_REQUEST: u64 = 2 * PART as u64;
/// Parts of one object under way.
const PARTS_AT_ONCE: usize = 4;
/// Attempts to create an object that is neither there nor to be created.
const CREATIONS_MAX: usize = 10;
/// Objects under way.
const OBJECTS_AT_ONCE: usize = 16;
/// Memory for parts of files that are being uploaded.
const UPLOAD_MEMORY_MB: usize = 128;

type Answer<T> = object_store::Result<T>;

/// For [`Remote::open`] where nobody asks to stop: what is waited for goes into the log.
pub fn log_waiting(text: &str) -> bool {
    if !text.is_empty() {
        tracing::warn!("{text}");
    }
    true
}

/// What lies below a URL.
#[derive(Debug)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// As the user spells it, for messages.
    url: String,
    runtime: Runtime,
    patience: Duration,
    /// It was said that the store is away.
    away: AtomicBool,
}

impl Remote {
    /// Opens the store and asks it for what lies there, so that a wrong address or a wrong key comes
    /// to light. `wait` is told what is waited for, and says whether to go on.
    ///
    /// # Errors
    /// The URL or a setting makes no sense, the store refuses, or it stays away.
    pub fn open(url: &str, keys: &Keys, wait: &mut dyn FnMut(&str) -> bool) -> Result<Self> {
        let (store, prefix) = open::store(url, keys)?;
        let remote = Self::over(store, prefix, url)?;
        remote.probe(wait)?;
        Ok(remote)
    }

    fn over(store: Arc<dyn ObjectStore>, prefix: Path, url: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("windrow-store")
            .enable_all()
            .build()
            .map_err(|e| Error::env(format!("cannot start a thread for {url}: {e}")))?;
        Ok(Self {
            store,
            prefix,
            url: url.trim_end_matches('/').to_string(),
            runtime,
            patience: PATIENCE,
            away: AtomicBool::new(false),
        })
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn probe(&self, wait: &mut dyn FnMut(&str) -> bool) -> Result<()> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            let first = async { self.store.list(Some(&self.prefix)).next().await.transpose() };
            let e = match self.runtime.block_on(first) {
                Ok(_) if !told => return Ok(()),
                Ok(_) => {
                    wait(&format!("{} answers", self.url));
                    return Ok(());
                }
                Err(e) => e,
            };
            let fault = Fault::new(&self.url, begun.elapsed(), &e);
            if !is_passing(&e) || begun.elapsed() >= self.patience {
                return Err(fault.into_error(&format!("cannot use {}", self.url)));
            }
            let text = format!("waiting for {}: {}", self.url, fault.reason());
            if !wait(if told { "" } else { &text }) {
                let stopped = format!("stopped while waiting for {}", self.url);
                return Err(Error::Stopped(stopped));
            }
            told = true;
            self.runtime
                .block_on(async { tokio::time::sleep(FIRST_PAUSE).await });
        }
    }

    /// Repeats `call` as long as it may help.
    async fn patiently<T, F>(&self, call: impl Fn() -> F) -> io::Result<T>
    where
        F: Future<Output = Answer<T>>,
    {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let e = match call().await {
                Ok(answer) => {
                    if self.away.swap(false, Relaxed) {
                        tracing::info!("{} answers", self.url);
                    }
                    return Ok(answer);
                }
                Err(e) => e,
            };
            let fault = Fault::new(&self.url, begun.elapsed(), &e);
            if !is_passing(&e) || begun.elapsed() >= self.patience {
                return Err(fault.into());
            }
            if !self.away.swap(true, Relaxed) {
                tracing::warn!("waiting for {}: {}", self.url, fault.reason());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// `name`: relative, with `/` between its parts.
    fn path(&self, name: &str) -> Path {
        let parts = self.prefix.parts().map(|p| p.as_ref().to_string());
        let below = name.split('/').map(str::to_string);
        // Taken as they are: what a listing spells like this must be found under the same spelling.
        let text: Vec<String> = parts.chain(below).collect();
        Path::parse(text.join("/"))
            .unwrap_or_else(|_| Path::from_iter(text.iter().map(|p| PathPart::from(p.as_str()))))
    }

    /// Writes an object, or replaces it.
    pub fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, bytes) = (self.path(name), Bytes::copy_from_slice(bytes));
        self.runtime.block_on(self.patiently(async || {
            let mut rest = bytes.clone();
            let read = |size| Ok(rest.split_to(rest.len().min(size)));
            self.send(&path, bytes.len() as u64, read).await
        }))
    }

    /// Writes an object of `length` bytes, which `read` gives one after the other.
    async fn send(
        &self,
        path: &Path,
        length: u64,
        mut read: impl FnMut(usize) -> Answer<Bytes>,
    ) -> Answer<()> {
        if length <= ONE_REQUEST {
            let whole = read(length as usize)?;
            return self.store.put(path, whole.into()).await.map(drop);
        }
        let upload = self.store.put_multipart(path).await?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, PART);
        loop {
            let part = match parts.wait_for_capacity(PARTS_AT_ONCE).await {
                Ok(()) => read(PART),
                Err(e) => Err(e),
            };
            match part {
                Ok(part) if part.is_empty() => return parts.finish().await.map(drop),
                Ok(part) => parts.put(part),
                Err(e) => {
                    // The store would keep the parts. If it is away now, it does.
                    parts.abort().await.ok();
                    return Err(e);
                }
            }
        }
    }

    /// Writes an object that is not there; [`ErrorKind::AlreadyExists`] when it is. The store decides
    /// (`If-None-Match: *`), so of two processes one succeeds.
    pub fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, bytes) = (self.path(name), Bytes::copy_from_slice(bytes));
        for _ in 0..CREATIONS_MAX {
            let created = self.runtime.block_on(self.patiently(async || {
                let payload = PutPayload::from(bytes.clone());
                let mode = PutMode::Create.into();
                self.store.put_opts(&path, payload, mode).await.map(drop)
            }));
            match created {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => match self.get(name) {
                    // An attempt before has come that far, and its answer was lost.
                    Ok(there) if *there == *bytes => return Ok(()),
                    Ok(_) => return Err(e),
                    // A creation and a removal met: it is free, and the store says to try again.
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                },
                other => return other,
            }
        }
        Err(io::Error::other("others create and remove it all the time"))
    }

    /// The object's bytes; [`ErrorKind::NotFound`] when there is none.
    pub fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        self.runtime.block_on(self.fetch(name))
    }

    /// The bytes of several objects, in order, asked for at once.
    pub fn get_all(&self, names: &[&str]) -> Vec<io::Result<Vec<u8>>> {
        let all = stream::iter(names).map(|name| self.fetch(name));
        self.runtime
            .block_on(all.buffered(OBJECTS_AT_ONCE).collect())
    }

    async fn fetch(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.path(name);
        let bytes = self.patiently(async || {
            let answer = self.store.get(&path).await?;
            let size = answer.meta.size;
            if size <= ONE_REQUEST {
                return Ok(answer.bytes().await?.into());
            }
            // One connection is slow: the rest of this answer is given up for several.
            drop(answer);
            let ranges = (0..size).step_by(PART);
            let ranges = ranges.map(|at| at..size.min(at + PART as u64));
            let parts = stream::iter(ranges).map(|r| self.store.get_range(&path, r));
            let mut whole = Vec::with_capacity(size as usize);
            let mut parts = parts.buffered(PARTS_AT_ONCE);
            while let Some(part) = parts.try_next().await? {
                whole.extend_from_slice(&part);
            }
            Ok(whole)
        });
        bytes.await
    }

    /// Whether there is such an object.
    pub fn exists(&self, name: &str) -> io::Result<bool> {
        let path = self.path(name);
        let found = self
            .runtime
            .block_on(self.patiently(|| self.store.head(&path)));
        match found {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The names of all objects, with `deep` also of those further below (`day=1/part-0.csv`).
    pub fn list(&self, deep: bool) -> io::Result<Vec<String>> {
        let found = self.runtime.block_on(self.patiently(async || {
            if deep {
                let objects = self.store.list(Some(&self.prefix));
                objects.map_ok(|o| o.location).try_collect().await
            } else {
                let listed = self.store.list_with_delimiter(Some(&self.prefix)).await?;
                Ok(listed.objects.into_iter().map(|o| o.location).collect())
            }
        }));
        let relative = |path: &Path| {
            let parts = path.prefix_match(&self.prefix)?;
            let parts: Vec<String> = parts.map(|p| p.as_ref().to_string()).collect();
            Some(parts.join("/"))
        };
        let found: Vec<Path> = found?;
        Ok(found.iter().filter_map(relative).collect())
    }

    /// Removes objects; no error when one is not there.
    pub fn delete_all(&self, names: &[String]) -> io::Result<()> {
        let all = stream::iter(names).map(|name| async {
            let path = self.path(name);
            match self.patiently(|| self.store.delete(&path)).await {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        });
        let all = all.buffer_unordered(OBJECTS_AT_ONCE).try_collect();
        self.runtime.block_on(all)
    }

    /// Copies objects within the store: `(from, to)`, in order, the result of each.
    /// [`ErrorKind::NotFound`]: there is no `from`.
    pub fn copy_all(&self, names: &[(String, String)]) -> Vec<io::Result<()>> {
        let all = stream::iter(names).map(|(from, to)| async {
            let (from, to) = (self.path(from), self.path(to));
            self.patiently(|| self.store.copy(&from, &to)).await
        });
        self.runtime
            .block_on(all.buffered(OBJECTS_AT_ONCE).collect())
    }

    /// Writes whole files as objects, or replaces these.
    pub fn upload_all(&self, files: &[(String, File)]) -> io::Result<()> {
        let memory = Semaphore::new(UPLOAD_MEMORY_MB);
        let all = stream::iter(files).map(|(name, file)| async {
            let (path, length) = (self.path(name), file.metadata()?.len());
            let needs = length.min((PARTS_AT_ONCE * PART) as u64).div_ceil(1 << 20);
            // It is never closed.
            let _memory = memory.acquire_many(needs as u32).await;
            self.patiently(async || self.upload(&path, file, length).await)
                .await
        });
        let all = all.buffer_unordered(OBJECTS_AT_ONCE).try_collect();
        self.runtime.block_on(all)
    }

    async fn upload(&self, path: &Path, mut file: &File, length: u64) -> Answer<()> {
        file.seek(SeekFrom::Start(0)).map_err(fault::of_disk)?;
        let read = |size: usize| {
            let mut part = Vec::with_capacity(size);
            let read = file.take(size as u64).read_to_end(&mut part);
            read.map_err(fault::of_disk)?;
            Ok(part.into())
        };
        self.send(path, length, read).await
    }
}
