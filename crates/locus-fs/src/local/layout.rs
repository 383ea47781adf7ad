//! Where things lie in a local volume: `{owner}/{aa}/{key}{.ext}` beside the marker, the staging directory, and those of
//! the other areas, which hold the same below.

use std::path::{Path, PathBuf};

use locus_core::{Area, BlobPath, Extension, FileKey, StoragePath};

/// Deepest sharding.
pub(crate) const DEPTH_MAX: u8 = 3;

/// The marker's name.
pub(crate) const MARKER: &str = ".locus-volume";

/// The staging directory's name. Neither it nor the marker's can be an owner's: those begin with a letter or digit.
pub(crate) const STAGING: &str = ".staging";

/// What the name of an upload in the staging directory begins with. The other names there are those of keys and probes.
const UPLOAD: &str = "upload=";

/// Turns addresses into paths. The shards of a blob are the last pairs of hexadecimal digits of its key, the very last
/// first: they are random in every UUID version 7.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) mount: PathBuf,
    pub(crate) depth: u8,
}

impl Layout {
    pub(crate) fn marker(&self) -> PathBuf {
        self.mount.join(MARKER)
    }

    pub(crate) fn staging_dir(&self) -> PathBuf {
        self.mount.join(STAGING)
    }

    pub(crate) fn staging(&self, name: &str) -> PathBuf {
        self.staging_dir().join(name)
    }

    /// The path under which a blob is put together from pieces.
    pub(crate) fn upload(&self, at: &BlobPath) -> PathBuf {
        self.staging(&format!("{UPLOAD}{}={}", at.owner, at.key))
    }

    /// The directory that is an area.
    pub(crate) fn area(&self, area: Area) -> PathBuf {
        area.dir().map_or_else(|| self.mount.clone(), |dir| self.mount.join(dir))
    }

    /// The directories that lead to a blob, that of its area or its owner first; the last one holds it.
    pub(crate) fn dirs(&self, at: &BlobPath) -> Vec<PathBuf> {
        let mut dir = self.area(at.area);
        let mut dirs = if dir == self.mount { Vec::new() } else { vec![dir.clone()] };
        dir.push(at.owner.as_str());
        dirs.push(dir.clone());
        for shard in shards(&at.key, self.depth) {
            dir = dir.join(shard);
            dirs.push(dir.clone());
        }
        dirs
    }

    /// Whether a directory of blobs may go when it is empty: not the mount, and not an owner's own of the queue.
    pub(crate) fn is_removable(&self, dir: &Path) -> bool {
        let Ok(below) = dir.strip_prefix(&self.mount) else { return false };
        let mut parts = below.iter().filter_map(text);
        match parts.next() {
            None => false,
            Some(first) if Area::of_dir(first).is_some() => true,
            Some(first) => StoragePath::parse(first).is_ok() && parts.next().is_some(),
        }
    }

    /// The directory that holds a blob.
    pub(crate) fn dir(&self, at: &BlobPath) -> PathBuf {
        self.area(at.area).join(at.owner.as_str()).join(shards(&at.key, self.depth).collect::<PathBuf>())
    }

    /// A blob's own path.
    pub(crate) fn blob(&self, at: &BlobPath) -> PathBuf {
        self.dir(at).join(blob_name(at))
    }
}

/// The shard directories of a key, outermost first.
pub(crate) fn shards(key: &FileKey, depth: u8) -> impl Iterator<Item = String> {
    let bytes = *key.as_bytes();
    bytes.into_iter().rev().take(usize::from(depth)).map(|byte| format!("{byte:02x}"))
}

/// Whether a directory's name is that of a shard.
pub(crate) fn is_shard(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
}

fn blob_name(at: &BlobPath) -> String {
    if at.extension.is_empty() { at.key.to_string() } else { format!("{}.{}", at.key, at.extension) }
}

/// Takes a file's name apart; `None` unless it is exactly what a blob's would be.
pub(crate) fn parse_blob_name(name: &str) -> Option<(FileKey, Extension)> {
    let (key, extension) = match name.split_once('.') {
        None => (name, Extension::NONE),
        Some((key, extension)) => {
            (key, Extension::parse(extension).filter(|extension| !extension.is_empty())?)
        }
    };
    let parsed = FileKey::parse(key).ok()?;
    (parsed.to_string() == key).then_some((parsed, extension))
}

/// Whether a name in the staging directory begins as an upload's: such a file goes only with its upload.
pub(crate) fn is_upload(name: &str) -> bool {
    name.starts_with(UPLOAD)
}

/// Takes the name of an upload apart; `None` unless it is exactly what an upload's would be.
pub(crate) fn parse_upload_name(name: &str) -> Option<BlobPath> {
    let (owner, key) = name.strip_prefix(UPLOAD)?.split_once('=')?;
    let (owner, parsed) = (StoragePath::parse(owner).ok()?, FileKey::parse(key).ok()?);
    (parsed.to_string() == key).then_some(BlobPath {
        area: Area::Live,
        owner,
        key: parsed,
        extension: Extension::NONE,
    })
}

/// The file name as text, when it is text.
pub(crate) fn text(name: &std::ffi::OsStr) -> Option<&str> {
    Path::new(name).to_str()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const KEY: &str = "0190a1b2-c3d4-7e5f-8a6b-0123456789ab";

    #[rstest]
    #[case(0, "/v/acme/0190a1b2-c3d4-7e5f-8a6b-0123456789ab.pdf")]
    #[case(1, "/v/acme/ab/0190a1b2-c3d4-7e5f-8a6b-0123456789ab.pdf")]
    #[case(2, "/v/acme/ab/89/0190a1b2-c3d4-7e5f-8a6b-0123456789ab.pdf")]
    #[case(3, "/v/acme/ab/89/67/0190a1b2-c3d4-7e5f-8a6b-0123456789ab.pdf")]
    fn a_blob_lies_under_the_last_digits_of_its_key(#[case] depth: u8, #[case] path: &str) {
        let layout = Layout { mount: "/v".into(), depth };
        let at = BlobPath {
            area: Area::Live,
            owner: StoragePath::parse("acme").unwrap(),
            key: FileKey::parse(KEY).unwrap(),
            extension: Extension::of("x.pdf"),
        };
        assert_eq!(layout.blob(&at), Path::new(path));
        assert_eq!(layout.dirs(&at).last().map(PathBuf::as_path), Path::new(path).parent());
        assert_eq!(layout.dirs(&at).len(), usize::from(depth) + 1);
    }

    #[rstest]
    #[case(&format!("upload=acme={KEY}"), true)]
    #[case(&format!("upload=acme+0123abcd={KEY}"), true)]
    #[case(&format!("upload=acme={}", KEY.to_uppercase()), false)]
    #[case(&format!("upload=../x={KEY}"), false)]
    #[case(&format!("upload={KEY}"), false)]
    #[case(KEY, false)]
    fn only_a_name_of_our_own_making_is_an_upload(#[case] name: &str, #[case] ours: bool) {
        let parsed = parse_upload_name(name);
        assert_eq!(parsed.is_some(), ours);
        if let Some(at) = parsed {
            let layout = Layout { mount: "/v".into(), depth: 1 };
            assert_eq!(layout.upload(&at), layout.staging(name));
        }
    }

    #[rstest]
    #[case(KEY, true)]
    #[case(&format!("{KEY}.pdf"), true)]
    #[case(&format!("{KEY}."), false)]
    #[case(&format!("{KEY}.PDF"), false)]
    #[case(&format!("{KEY}.tar.gz"), false)]
    #[case(&KEY.to_uppercase(), false)]
    #[case(&KEY.replace('-', ""), false)]
    #[case(&format!("{{{KEY}}}"), false)]
    #[case("Thumbs.db", false)]
    #[case("", false)]
    fn only_a_name_of_our_own_making_is_a_blob(#[case] name: &str, #[case] ours: bool) {
        assert_eq!(parse_blob_name(name).is_some(), ours);
    }
}
