//! A file of the input folder: found, named, opened, hashed.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
};

use locus::{Checksum, Content, LogicalDir, Properties};
use locus_core::{Hasher, PROPERTIES_BYTES_MAX};
use walkdir::{DirEntry, WalkDir};

/// The property that tells a worker which source a file came from.
pub(crate) const PATH: &str = "path";
/// The property that tells a worker the BLAKE3 of that source.
pub(crate) const HASH: &str = "blake3";

/// Content up to this size is held in memory; what is larger is read twice, once to be hashed.
pub(crate) const SMALL_BYTES_MAX: u64 = 1 << 20;
const CHUNK_BYTES: usize = 256 << 10;

/// A regular file of the input folder.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// Its path relative to the input folder. Names it for ever, and decides its fate.
    pub(crate) name: String,
}

/// A source that was opened and hashed.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) content: Content,
    pub(crate) checksum: Checksum,
    pub(crate) bytes: u64,
}

/// The regular files under `input`, and what could not be looked at. Links are not followed; what is named `.git`,
/// folders named `target` and the folders `left_out` are passed by.
pub(crate) fn walk(
    input: &Path,
    left_out: Vec<PathBuf>,
) -> impl Iterator<Item = Result<Source, walkdir::Error>> {
    let is_wanted = move |entry: &DirEntry| {
        let is_build = entry.file_type().is_dir() && entry.file_name() == "target";
        let is_ours = left_out.iter().any(|path| path == entry.path());
        entry.depth() == 0 || !(entry.file_name() == ".git" || is_build || is_ours)
    };
    let input = input.to_owned();
    WalkDir::new(&input).follow_links(false).into_iter().filter_entry(is_wanted).filter_map(move |entry| {
        match entry {
            Ok(entry) if entry.file_type().is_file() => Some(Ok(Source::new(&input, entry.into_path()))),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    })
}

impl Source {
    fn new(input: &Path, path: PathBuf) -> Self {
        let name = name_of(path.strip_prefix(input).unwrap_or(&path));
        Self { path, name }
    }

    /// Opens the file and hashes what is in it. Blocks the thread.
    pub(crate) fn prepare(&self) -> io::Result<Prepared> {
        let mut file = File::open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no longer a regular file"));
        }
        let mut head = Vec::new();
        let read = file.by_ref().take(SMALL_BYTES_MAX + 1).read_to_end(&mut head)? as u64;
        if read <= SMALL_BYTES_MAX {
            let checksum = Checksum::of(&head);
            return Ok(Prepared { content: head.into(), checksum, bytes: read });
        }
        file.rewind()?;
        let (mut hasher, mut bytes) = (Hasher::new(), 0);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                read => {
                    hasher.update(chunk.get(..read).unwrap_or_default());
                    bytes += read as u64;
                }
            }
        }
        file.rewind()?;
        Ok(Prepared { content: file.into(), checksum: hasher.finish(), bytes })
    }

    /// What a worker is told.
    pub(crate) fn properties(&self, checksum: Checksum) -> Properties {
        let hash = checksum.to_string();
        let room = PROPERTIES_BYTES_MAX - PATH.len() - HASH.len() - hash.len();
        Properties::from([(PATH.to_owned(), end_of(&self.name, room).to_owned()), (HASH.to_owned(), hash)])
    }

    /// The folder it is in, or the nearest one above that is within the bounds of a logical directory.
    pub(crate) fn directory(&self) -> &str {
        let mut directory = self.name.rsplit_once('/').map_or("", |(directory, _)| directory);
        while LogicalDir::parse(directory).is_err() {
            directory = directory.rsplit_once('/').map_or("", |(above, _)| above);
        }
        directory
    }

    pub(crate) fn file_name(&self) -> &str {
        self.name.rsplit_once('/').map_or(&self.name, |(_, name)| name)
    }
}

/// The path as text, with `/` between its parts. One that is no text gets a hash of what it is, so that no two share a
/// name.
fn name_of(path: &Path) -> String {
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let text = parts.join("/");
    match path.to_str() {
        Some(_) => text,
        None => format!("{text}#{}", Checksum::of(path.as_os_str().as_encoded_bytes())),
    }
}

/// The last `max` bytes of a text, or somewhat less.
fn end_of(text: &str, max: usize) -> &str {
    let start = text.len().saturating_sub(max);
    (start..=text.len()).find_map(|start| text.get(start..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn put(path: PathBuf, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        io::Write::write_all(&mut File::create(path).unwrap(), bytes).unwrap();
    }

    #[test]
    fn only_regular_files_that_are_not_left_out_are_found() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        for path in ["a", "sub/b", "sub/target/no", ".git/no", "data/no", "sub/data/c", "sub/other/target"] {
            put(dir.join(path), b"x");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.join("a"), dir.join("link")).unwrap();
            std::os::unix::fs::symlink(dir.join("sub"), dir.join("linked")).unwrap();
        }
        let found = walk(dir, vec![dir.join("data")]).map(|source| source.unwrap().name);
        let mut found: Vec<_> = found.collect();
        found.sort_unstable();
        assert_eq!(found, ["a", "sub/b", "sub/data/c", "sub/other/target"]);
    }

    #[test]
    fn a_small_and_a_large_source_are_hashed_alike() {
        let temp = tempfile::tempdir().unwrap();
        for bytes in [0, 1, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, 3 * SMALL_BYTES_MAX] {
            let content = vec![7; usize::try_from(bytes).unwrap()];
            put(temp.path().join("file"), &content);
            let prepared = Source::new(temp.path(), temp.path().join("file")).prepare().unwrap();
            assert_eq!((prepared.bytes, prepared.checksum), (bytes, Checksum::of(&content)));
            assert_eq!(prepared.content.as_bytes().is_some(), bytes <= SMALL_BYTES_MAX);
        }
    }

    #[test]
    fn what_a_worker_is_told_is_within_its_bounds() {
        let deep = vec!["directory"; 400].join("/") + "/ä.txt";
        let source = Source { path: PathBuf::new(), name: deep };
        let told = source.properties(Checksum::of(b""));
        assert!(
            told.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() <= PROPERTIES_BYTES_MAX
        );
        assert!(told[PATH].ends_with("/ä.txt"));
        assert_eq!(LogicalDir::parse(source.directory()).unwrap().as_str().split('/').count(), 33);
        assert_eq!(source.file_name(), "ä.txt");
    }

    #[cfg(unix)]
    #[test]
    fn two_paths_that_are_no_text_have_two_names() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let name = |bytes: &[u8]| name_of(Path::new(OsStr::from_bytes(bytes)));
        assert_ne!(name(b"a\xff"), name(b"a\xfe"));
        assert_eq!(name(b"a/b"), "a/b");
    }
}
