//! Every sync of the product says which promise rests upon it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use locus_core::Site;

/// The files of the product's crates, with their code.
fn sources() -> BTreeMap<PathBuf, String> {
    let crates =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("because crates lie beside each other");
    let mut found = BTreeMap::new();
    let mut ahead: Vec<PathBuf> = fs::read_dir(crates)
        .expect("because the sources lie here")
        .map(|entry| entry.expect("because the sources lie here").path())
        .filter(|path| {
            !["locus-testkit", "locus-torture", "locus-interleave"].iter().any(|tool| path.ends_with(tool))
        })
        .map(|path| path.join("src"))
        .collect();
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(&dir).expect("because the sources lie here") {
            let path = entry.expect("because the sources lie here").path();
            if path.is_dir() {
                ahead.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("because the sources lie here");
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                found.insert(path, code.to_owned());
            }
        }
    }
    assert!(found.len() > 80, "only {} sources were found", found.len());
    found
}

#[test]
fn every_sync_goes_through_a_door_that_names_its_site() {
    // The seam itself, its real disk, and the doors.
    let exempt = ["locus-fs/src/disk.rs", "locus-fs/src/synced.rs"];
    let is_real_disk =
        |path: &Path| path.parent().is_some_and(|folder| folder.ends_with("locus-fs/src/os_disk"));
    let mut doors = 0;
    for (path, code) in sources() {
        if is_real_disk(&path) || exempt.iter().any(|file| path.ends_with(file)) {
            continue;
        }
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            // A volume's own `sync_dir` hands its site on.
            let is_bare = line.contains(".sync_data()")
                || line.contains(".sync_all()")
                || line.contains(".sync_dir(")
                    && !line.contains("core.sync_dir(")
                    && !line.contains("self.sync_dir(")
                || line.contains(".sync_all(");
            assert!(!is_bare, "{}:{}: a sync without a site", path.display(), number + 1);
            doors +=
                usize::from(["sync_data(", "sync_dir(", "sync_all("].iter().any(|door| line.contains(door)));
        }
    }
    assert!(doors > 20, "only {doors} syncs were found");
}

#[test]
fn every_site_is_in_use() {
    let code: String = sources()
        .into_iter()
        .filter(|(path, _)| !path.ends_with("locus-core/src/site.rs"))
        .map(|(_, code)| code)
        .collect();
    for site in Site::ALL {
        assert!(code.contains(&format!("Site::{site:?}")), "{site:?} guards nothing");
    }
}

/// What the facade refuses at compile time, and no manifest but this package's asks for.
#[test]
fn only_builds_of_torture_can_break_sites() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let facade = fs::read_to_string(root.join("crates/locus/src/lib.rs")).unwrap();
    assert!(facade.contains("assert!(!locus_core::SITES_CAN_BREAK"));
    let dirs = fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let others = ["benches", "samples/console", "tests"].map(|dir| root.join(dir));
    let mut asking = Vec::new();
    for dir in dirs.chain(others) {
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        if manifest.contains("break-sites") {
            asking.push(dir.file_name().unwrap().to_owned());
        }
    }
    asking.sort();
    assert_eq!(asking, ["locus-core", "locus-torture"]);
}
