//! What handlers printed: one record an invocation, as JSON lines below `<state>/functions/<name>/logs`.
//!
//! `current.jsonl` takes records until it holds as many as are kept; it then becomes `previous.jsonl`, whose
//! predecessor goes. So between once and twice the number that is asked for is on disk, and writing is one append.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::name::FunctionName;

/// One invocation as it is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The id that the caller got as `x-ol-request-id`.
    pub request_id: String,
    /// Version of the function that ran.
    pub version: String,
    /// When the call began, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// How long the handler ran.
    pub wall_ms: u64,
    /// Highest memory use of the sandbox so far.
    pub memory_peak_bytes: u64,
    /// `fork`, `cold` or `warm`.
    pub start: String,
    /// `ok`, or the error type the caller got.
    pub outcome: String,
    /// Where the handler raised: what the interpreter would have printed of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
    /// What the handler wrote to standard output. Bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// What the handler wrote to standard error.
    pub stderr: String,
    /// Whether output was cut at the limit.
    pub truncated: bool,
}

/// The logs of all functions.
#[derive(Debug)]
pub struct Logs {
    functions: PathBuf,
    kept: usize,
    open: Mutex<HashMap<FunctionName, Arc<Mutex<Appender>>>>,
}

#[derive(Debug)]
struct Appender {
    file: File,
    records: usize,
}

impl Logs {
    /// Logs below the registry's folder `functions`, `kept` records of each function.
    pub fn new(functions: PathBuf, kept: usize) -> Logs {
        Logs { functions, kept: kept.max(1), open: Mutex::new(HashMap::new()) }
    }

    /// Adds a record. Output is never worth failing a call for: what cannot be written is logged as lost.
    pub fn append(&self, name: &FunctionName, record: &Record) {
        if let Err(error) = self.try_append(name, record) {
            tracing::warn!(function = %name, request_id = record.request_id, %error, "output of a call was not kept");
        }
    }

    fn try_append(&self, name: &FunctionName, record: &Record) -> io::Result<()> {
        let appender = self.appender(name)?;
        let mut appender = appender.lock().unwrap_or_else(PoisonError::into_inner);
        if appender.records >= self.kept {
            let folder = self.folder(name);
            std::fs::rename(folder.join(CURRENT), folder.join(PREVIOUS))?;
            *appender = Appender::open(&folder)?;
        }
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        appender.file.write_all(&line)?;
        appender.records += 1;
        Ok(())
    }

    fn appender(&self, name: &FunctionName) -> io::Result<Arc<Mutex<Appender>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(appender) = open.get(name) {
            return Ok(appender.clone());
        }
        let appender = Arc::new(Mutex::new(Appender::open(&self.folder(name))?));
        open.insert(name.clone(), appender.clone());
        Ok(appender)
    }

    /// The last `limit` records, oldest first.
    ///
    /// # Errors
    /// A log file exists and cannot be read.
    pub fn last(&self, name: &FunctionName, limit: usize) -> io::Result<Vec<Record>> {
        let folder = self.folder(name);
        let limit = limit.min(self.kept);
        let mut records = read(&folder.join(CURRENT))?;
        if records.len() < limit {
            let newer = std::mem::replace(&mut records, read(&folder.join(PREVIOUS))?);
            records.extend(newer);
        }
        Ok(records.split_off(records.len().saturating_sub(limit)))
    }

    /// Lets go of a removed function's file.
    pub fn forget(&self, name: &FunctionName) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn folder(&self, name: &FunctionName) -> PathBuf {
        self.functions.join(name.as_str()).join("logs")
    }
}

const CURRENT: &str = "current.jsonl";
const PREVIOUS: &str = "previous.jsonl";

impl Appender {
    fn open(folder: &Path) -> io::Result<Appender> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(CURRENT);
        let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
        let text = std::fs::read(&path)?;
        // A run that was killed while writing leaves half a line: end it, so that only that record is lost.
        if text.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n")?;
        }
        Ok(Appender { file, records: text.iter().filter(|byte| **byte == b'\n').count() })
    }
}

fn read(path: &Path) -> io::Result<Vec<Record>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut records = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        // Half a line of a killed run, or one being written right now.
        if let Ok(record) = serde_json::from_slice(&line?) {
            records.push(record);
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: usize) -> Record {
        Record {
            request_id: id.to_string(),
            version: "v".to_owned(),
            started_at_ms: 1,
            wall_ms: 2,
            memory_peak_bytes: 3,
            start: "warm".to_owned(),
            outcome: "ok".to_owned(),
            traceback: None,
            stdout: "two\nlines".to_owned(),
            stderr: String::new(),
            truncated: false,
        }
    }

    fn ids(logs: &Logs, name: &FunctionName, limit: usize) -> Vec<String> {
        logs.last(name, limit).unwrap().into_iter().map(|record| record.request_id).collect()
    }

    #[test]
    fn the_last_records_are_kept_in_order_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let name = "one".parse().unwrap();
        for id in 0..10 {
            // A new value each time, as after a restart.
            Logs::new(dir.path().to_path_buf(), 3).append(&name, &record(id));
        }
        let logs = Logs::new(dir.path().to_path_buf(), 3);
        assert_eq!(ids(&logs, &name, 2), ["8", "9"]);
        assert_eq!(ids(&logs, &name, 100), ["7", "8", "9"]);
        assert_eq!(logs.last(&name, 1).unwrap(), [record(9)]);
        assert!(ids(&logs, &"other".parse().unwrap(), 5).is_empty());
    }

    #[test]
    fn half_a_line_of_a_killed_run_costs_only_that_record() {
        let dir = tempfile::tempdir().unwrap();
        let name = "one".parse().unwrap();
        Logs::new(dir.path().to_path_buf(), 9).append(&name, &record(1));
        let path = dir.path().join("one/logs/current.jsonl");
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"request_id\":").unwrap();
        let logs = Logs::new(dir.path().to_path_buf(), 9);
        logs.append(&name, &record(2));
        assert_eq!(ids(&logs, &name, 9), ["1", "2"]);
    }
}
