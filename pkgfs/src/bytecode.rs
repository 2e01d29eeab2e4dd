//! Byte code: `.pyc` files for the sources of wheels, made when they are first looked up, so that imports need not
//! compile. They are of the unchecked-hash kind (PEP 552), for nothing here ever changes under them.
//!
//! `__pycache__` is found by lookup and is empty when listed: Python asks for the one name it wants.

mod journal;
mod worker;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use mirror::{Interpreter, Sha256};

use crate::fetch::Fetcher;
use crate::store::{FillError, Store};
use crate::tree::{Sources, identity};

use journal::Journal;
use worker::{NoAnswer, Worker};

/// Larger sources are left to Python.
const MAX_SOURCE_BYTES: u64 = 4 << 20;

/// Byte code of one source for one Python.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    sources: Arc<Sources>,
    /// Such as `cpython-311`.
    tag: Arc<str>,
    pub(crate) digest: Sha256,
    pub(crate) size: u64,
}

/// Makes byte code and remembers it.
#[derive(Debug)]
pub(crate) struct Bytecode {
    store: Arc<Store>,
    fetcher: Arc<Fetcher>,
    journal: Journal,
    workers: Mutex<HashMap<Arc<str>, Arc<Worker>>>,
    /// Sources over which a process died or took too long, once.
    failed: Mutex<HashSet<Sha256>>,
}

impl Bytecode {
    pub(crate) fn open(folder: &Path, store: Arc<Store>, fetcher: Arc<Fetcher>) -> io::Result<Bytecode> {
        Ok(Bytecode {
            store,
            fetcher,
            journal: Journal::open(folder)?,
            workers: Mutex::default(),
            failed: Mutex::default(),
        })
    }

    /// From now on there is byte code for this interpreter.
    pub(crate) fn offer(&self, interpreter: &Interpreter) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let tag: Arc<str> = interpreter.cache_tag.as_str().into();
        workers.entry(tag).or_insert_with(|| Arc::new(Worker::new(&interpreter.path)));
    }

    /// The module and the tag in `module.cpython-311.pyc`, where there may be byte code for it.
    pub(crate) fn parse<'a>(&self, name: &'a str) -> Option<(&'a str, Arc<str>)> {
        let (module, tag) = name.strip_suffix(".pyc")?.rsplit_once('.')?;
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        Some((module, workers.get_key_value(tag)?.0.clone()))
    }

    /// The byte code of a source; `None` where there is none, and Python will compile by itself.
    pub(crate) async fn of(&self, sources: &Arc<Sources>, tag: &Arc<str>) -> Option<Compiled> {
        if sources.size > MAX_SOURCE_BYTES {
            return None;
        }
        let key = key(sources, tag);
        let (digest, size) = match self.journal.get(&key) {
            Some(known) => known?,
            None => self.make(sources, tag, &key).await?,
        };
        Some(Compiled { sources: sources.clone(), tag: tag.clone(), digest, size })
    }

    /// The file, made again if it was evicted. It may then come out differently and is no use: reading fails, and
    /// Python turns to the source.
    pub(crate) async fn file(&self, compiled: &Compiled) -> Option<Arc<File>> {
        if let Some(file) = self.at_hand(compiled) {
            return Some(file);
        }
        self.store.recheck(&compiled.digest);
        if !self.store.has(&compiled.digest) {
            self.make(&compiled.sources, &compiled.tag, &key(&compiled.sources, &compiled.tag)).await?;
        }
        self.at_hand(compiled)
    }

    /// The file, if nothing has to be done for it.
    pub(crate) fn at_hand(&self, compiled: &Compiled) -> Option<Arc<File>> {
        self.store.get(&compiled.digest, compiled.size)
    }

    async fn make(&self, sources: &Sources, tag: &Arc<str>, key: &Sha256) -> Option<(Sha256, u64)> {
        let worker = self.workers.lock().unwrap_or_else(PoisonError::into_inner).get(tag).cloned()?;
        // A source that cannot be fetched now may be fetched later: nothing is remembered.
        let file = self.fetcher.any(sources).await.ok()?;
        let mut text = vec![0; usize::try_from(sources.size).ok()?];
        file.read_exact_at(&mut text, 0).ok()?;
        match worker.compile(&text).await {
            Ok(Some(code)) => {
                // Where the disk is full now it may not be later.
                let kept = self.keep(&code)?;
                self.journal.put(key, Some(kept));
                Some(kept)
            }
            Ok(None) => {
                self.journal.put(key, None);
                None
            }
            Err(NoAnswer::Failed) if !self.fails_first(key) => {
                self.journal.put(key, None);
                None
            }
            Err(_) => None,
        }
    }

    /// The second time it is the source, not what else happens on this machine.
    fn fails_first(&self, key: &Sha256) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert(*key)
    }

    fn keep(&self, code: &[u8]) -> Option<(Sha256, u64)> {
        let (digest, size) = (Sha256::of(code), code.len() as u64);
        let fill = |sink: &mut dyn Write| sink.write_all(code).map_err(FillError::<io::Error>::Disk);
        match self.store.insert(&digest, size, fill) {
            Ok(_) => Some((digest, size)),
            Err(error) => {
                tracing::info!(%error, "byte code is not kept");
                None
            }
        }
    }
}

fn key(sources: &Sources, tag: &str) -> Sha256 {
    identity("bytecode", &[&sources.digest.0, tag.as_bytes()])
}
