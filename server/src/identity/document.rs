//! A document that is one file: read with its version and checksum, changed by many at once, and written whole.
//!
//! Who changes it while a write is under way shares the next one with all others who do: a thousand hosts that join at the same
//! time cost a few dozen writes and syncs, not a thousand. Each is answered after the write that has its change; until then nobody who
//! reads sees the change. Where a write fails, so do all changes in it and all that were built on them meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{IdentityError, files};

/// What is kept so. Its clone is made at each change and must be cheap: what there is many of belongs behind an [`Arc`].
pub(super) trait Document: Clone + PartialEq + Serialize + DeserializeOwned {
    /// Its name in the identity directory.
    const FILE: &'static str;
    /// Its version: a later one is refused, an earlier one is read.
    const VERSION: u32;

    /// The same as this build writes it.
    fn of_this_version(self) -> Self;
}

#[derive(serde::Deserialize)]
struct VersionOnly {
    version: u32,
}

/// Reads a document.
pub(super) fn parse<D: Document>(bytes: &[u8]) -> Result<D, IdentityError> {
    let file = D::FILE;
    let wrong = |why: String| IdentityError::Damaged { file, why };
    let damaged = |error: serde_json::Error| wrong(error.to_string());
    let VersionOnly { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    files::check(bytes, version, D::VERSION).map_err(wrong)?;
    if version > D::VERSION {
        return Err(IdentityError::Newer { file, version });
    }
    let document: D = serde_json::from_slice(bytes).map_err(damaged)?;
    Ok(document.of_this_version())
}

/// Reads the document in this directory; none where there is no such file.
pub(super) fn read<D: Document>(dir: &Path) -> Result<Option<D>, IdentityError> {
    let bytes = files::read(dir, D::FILE)?;
    bytes.as_deref().map(parse).transpose()
}

/// A document in memory and on disk.
pub(super) struct Kept<D> {
    dir: PathBuf,
    /// What is on disk: read by all without waiting.
    durable: ArcSwap<D>,
    ahead: Mutex<Ahead<D>>,
    written: Condvar,
}

/// The document with all changes, those that are not on disk among them.
struct Ahead<D> {
    document: Arc<D>,
    /// The write that has the last of them.
    write: Arc<Write>,
    /// Whether that write began, so that a further change needs another.
    begun: bool,
    /// Whether somebody writes.
    writing: bool,
}

/// How one write ended; nothing yet where it did not.
type Write = OnceLock<Result<(), io::Error>>;

impl<D: Document> Kept<D> {
    /// The document as it was just read, or a first one that is written with its first change.
    pub(super) fn new(dir: &Path, document: D) -> Kept<D> {
        let document = Arc::new(document);
        Kept {
            dir: dir.to_owned(),
            durable: ArcSwap::new(Arc::clone(&document)),
            ahead: Mutex::new(Ahead::at(document)),
            written: Condvar::new(),
        }
    }

    /// The document as it is on disk.
    pub(super) fn load(&self) -> Guard<Arc<D>> {
        self.durable.load()
    }

    /// Changes the document: the change is in force once the file is in place, else not at all. Waits for the disk.
    pub(super) fn change<T, E: From<IdentityError>>(
        &self,
        change: impl FnOnce(&mut D) -> Result<T, E>,
    ) -> Result<T, E> {
        let write = |document: &D| files::try_write(&self.dir, D::FILE, &files::print(document));
        self.change_by(change, write)
    }

    fn change_by<T, E: From<IdentityError>>(
        &self,
        change: impl FnOnce(&mut D) -> Result<T, E>,
        write: impl FnOnce(&D) -> io::Result<()>,
    ) -> Result<T, E> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let mut document = D::clone(&ahead.document);
        let out = change(&mut document)?;
        if document != *ahead.document {
            ahead.take(document);
        }
        // Where nothing changed, what stands may still have to reach the disk.
        let own = Arc::clone(&ahead.write);
        while own.get().is_none() && ahead.writing {
            ahead = self
                .written
                .wait(ahead)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if own.get().is_none() {
            (ahead.begun, ahead.writing) = (true, true);
            let document = Arc::clone(&ahead.document);
            drop(ahead);
            let ended = write(&document);
            self.end_write(&own, document, ended);
        }
        match own.get() {
            Some(Err(error)) => Err(IdentityError::Write {
                path: self.dir.join(D::FILE),
                source: again(error),
            }
            .into()),
            Some(Ok(())) | None => Ok(out),
        }
    }

    fn end_write(&self, own: &Write, document: Arc<D>, ended: io::Result<()>) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.writing = false;
        match &ended {
            Ok(()) => self.durable.store(document),
            Err(error) => {
                // Changes that came meanwhile were built on those that are not in force now.
                let _ = ahead.write.set(Err(again(error)));
                *ahead = Ahead::at(self.durable.load_full());
            }
        }
        let _ = own.set(ended);
        self.written.notify_all();
    }
}

impl<D> Ahead<D> {
    /// Nothing is ahead of the disk.
    fn at(document: Arc<D>) -> Ahead<D> {
        Ahead {
            document,
            write: Arc::new(OnceLock::from(Ok(()))),
            begun: true,
            writing: false,
        }
    }

    fn take(&mut self, document: D) {
        if self.begun {
            (self.write, self.begun) = (Arc::default(), false);
        }
        self.document = Arc::new(document);
    }
}

/// The same error for somebody else who waited for the same write.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::mpsc;

    #[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
    struct Numbers {
        version: u32,
        all: BTreeSet<u32>,
    }

    impl Document for Numbers {
        const FILE: &'static str = "numbers.json";
        const VERSION: u32 = 2;

        fn of_this_version(self) -> Numbers {
            Numbers { version: 2, ..self }
        }
    }

    fn kept(dir: &Path) -> Kept<Numbers> {
        let first = Numbers {
            version: 2,
            all: BTreeSet::new(),
        };
        Kept::new(dir, first)
    }

    fn add(number: u32) -> impl FnOnce(&mut Numbers) -> Result<u32, IdentityError> {
        move |numbers| {
            numbers.all.insert(number);
            Ok(number)
        }
    }

    /// Threads that change the document while its first write is under way; that write is let go once all of them have.
    /// Gives how each ended, the first one first, and what each write was to have.
    fn crowd(
        kept: &Kept<Numbers>,
        others: u32,
        first_ends: io::Result<()>,
    ) -> (Vec<Result<u32, IdentityError>>, Vec<usize>) {
        let writes = Mutex::new(Vec::new());
        let (begun, begins) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let ended = std::thread::scope(|scope| {
            let writes = &writes;
            let first = scope.spawn(move || {
                kept.change_by(add(0), |numbers| {
                    writes.lock().unwrap().push(numbers.all.len());
                    begun.send(()).unwrap();
                    goes.recv().unwrap();
                    first_ends
                })
            });
            begins.recv().unwrap();
            let changes = move |number| {
                let write = |numbers: &Numbers| {
                    writes.lock().unwrap().push(numbers.all.len());
                    Ok(())
                };
                kept.change_by(add(number), write)
            };
            let threads: Vec<_> = (1..=others)
                .map(|number| scope.spawn(move || changes(number)))
                .collect();
            while kept.ahead.lock().unwrap().document.all.len() <= others as usize {
                std::thread::yield_now();
            }
            assert!(
                kept.load().all.is_empty(),
                "nobody sees what is not on disk"
            );
            go.send(()).unwrap();
            let threads = std::iter::once(first).chain(threads);
            threads.map(|thread| thread.join().unwrap()).collect()
        });
        (ended, writes.into_inner().unwrap())
    }

    #[test]
    fn all_who_change_while_a_write_is_under_way_share_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let kept = kept(dir.path());
        let (ended, writes) = crowd(&kept, 100, Ok(()));
        let want: Vec<u32> = (0..=100).collect();
        let got: Vec<u32> = ended.into_iter().map(Result::unwrap).collect();
        assert_eq!((got, writes), (want, vec![1, 101]));
        assert_eq!(kept.load().all.len(), 101);
    }

    #[test]
    fn a_write_that_fails_takes_with_it_what_was_built_on_it_and_nothing_later() {
        let dir = tempfile::tempdir().unwrap();
        let kept = kept(dir.path());
        let full = io::Error::from_raw_os_error(28);
        let (ended, writes) = crowd(&kept, 20, Err(full));
        for one in ended {
            let error = one.unwrap_err();
            let IdentityError::Write { path, source } = &error else {
                panic!("{error}")
            };
            assert_eq!(source.raw_os_error(), Some(28));
            assert!(path.ends_with("numbers.json"), "{error}");
        }
        assert_eq!(writes, [1], "what is void is not written");
        assert!(kept.load().all.is_empty());
        assert_eq!(kept.change(add(7)).unwrap(), 7);
        let read: Numbers = read(dir.path()).unwrap().unwrap();
        assert_eq!(read.all, BTreeSet::from([7]));
        assert_eq!(read, **kept.load());
    }

    #[test]
    fn what_changes_nothing_is_not_written_but_waits_for_what_it_saw() {
        let dir = tempfile::tempdir().unwrap();
        let kept = kept(dir.path());
        let never = |_: &Numbers| -> io::Result<()> { panic!("a write for nothing") };
        let same = |_: &mut Numbers| Ok::<(), IdentityError>(());
        kept.change_by(same, never).unwrap();
        let refused = |numbers: &mut Numbers| {
            numbers.all.insert(9);
            Err::<(), _>(IdentityError::Random)
        };
        kept.change_by(refused, never).unwrap_err();
        assert!(kept.ahead.lock().unwrap().document.all.is_empty());
        // Somebody finds 3 in the document while it is being written: that write is awaited, and its end shared.
        let (begun, begins) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let kept = &kept;
            let writes = scope.spawn(move || {
                kept.change_by(add(3), |_| {
                    begun.send(()).unwrap();
                    goes.recv().unwrap();
                    Err(io::Error::from_raw_os_error(5))
                })
            });
            begins.recv().unwrap();
            let (saw, seen) = mpsc::channel();
            let finds = scope.spawn(move || {
                let look = |numbers: &mut Numbers| {
                    saw.send(numbers.all.contains(&3)).unwrap();
                    Ok::<(), IdentityError>(())
                };
                kept.change_by(look, never)
            });
            assert!(seen.recv().unwrap());
            go.send(()).unwrap();
            writes.join().unwrap().unwrap_err();
            finds.join().unwrap().unwrap_err();
        });
    }

    #[test]
    fn a_document_of_a_later_version_is_refused() {
        let newer = parse::<Numbers>(br#"{"version":3}"#).unwrap_err();
        assert!(matches!(newer, IdentityError::Newer { version: 3, .. }));
    }
}
