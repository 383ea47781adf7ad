//! The story of a vault: a ring of keys, secrets that change, keys that are replaced. Each part is a function of a few lines
//! that can be copied into a program.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::BoxError;
use locus_vault::{
    EntityId, Expect, KeyState, Keyring, KeyringFile, NewRecipient, Passphrase, RewrapOptions, Unlock, Vault,
    VaultError, VaultOptions, Version,
};
use serde_json::{Value, json};
use walkdir::WalkDir;

use crate::{args::VaultArgs, table::size};

/// A program would ask for it.
const PASSPHRASE: &[u8] = b"open sesame";
/// What nobody may find on the disk.
const SECRET: &str = "the-back-door-is-open-on-mondays";

/// Tells the story, in a folder of its own that goes with it unless it is to be kept.
pub(crate) async fn story(args: &VaultArgs) -> Result<(), BoxError> {
    let temporary = tempfile::Builder::new().prefix("locus-vault-").tempdir()?;
    let dir = temporary.path().to_owned();
    println!("A vault in {}.", dir.display());
    let told = tell(&dir).await;
    if args.keep {
        let _kept = temporary.keep();
        println!("\nThe vault stays in {}. To look into it:", dir.display());
        println!("   locus vault get {} accounts/bank", dir.display());
        println!("The passphrase is {:?}.", String::from_utf8_lossy(PASSPHRASE));
    } else {
        temporary.close()?;
        println!("\nThe vault is gone with its folder; --keep would have left it.");
    }
    told
}

async fn tell(dir: &Path) -> Result<(), BoxError> {
    println!("\n1. a ring of keys");
    let file = KeyringFile::at(dir.join("keyring"));
    let ring = make_ring(&file).await?;

    println!("\n2. put and get");
    let options = VaultOptions::new(Arc::new(ring)).keyring_file(file.clone());
    let vault = Vault::open(dir, options).await?;
    let (bank, mail) = ("accounts/bank".parse()?, "accounts/mail".parse()?);
    let first = put_and_get(&vault, &bank, &mail).await?;

    println!("\n3. two who change the same");
    change(&vault, &bank, first).await?;

    println!("\n4. another key");
    rotate_and_rewrap(&vault, &file, &bank).await?;

    println!("\n5. what lies on the disk");
    verify(&vault).await?;
    search(dir)?;
    vault.close().await;
    Ok(())
}

async fn make_ring(file: &KeyringFile) -> Result<Keyring, BoxError> {
    let passphrase = || Passphrase::new(PASSPHRASE).ok_or("an empty passphrase");
    let made = file.create(NewRecipient::passphrase("operator", passphrase()?)).await?;
    println!("   made, with one key: {}", made.active().0);

    // What every later start does.
    let ring = file.open(Unlock::Passphrase(passphrase()?)).await?;
    println!("   opened by its passphrase");
    let wrong = Passphrase::new(b"open barley").ok_or("an empty passphrase")?;
    match file.open(Unlock::Passphrase(wrong)).await {
        Err(error @ VaultError::NotARecipient { .. }) => println!("   by another one: {error}"),
        _ => return Err("a wrong passphrase was not refused".into()),
    }
    Ok(ring)
}

async fn put_and_get(vault: &Vault, bank: &EntityId, mail: &EntityId) -> Result<Version, BoxError> {
    let first = vault.put(bank, &json!({ "note": SECRET, "logins": 0 }), Expect::Absent).await?;
    println!("   {bank} is put: version {}, sealed, and it survives power loss", first.number);
    vault.put(mail, &json!({ "user": "ada", "note": SECRET }), Expect::Absent).await?;

    let entity = vault.get(bank).await?;
    println!("   got: {}", entity.json::<Value>()?);
    println!("   written by {}", entity.metadata().writer);
    Ok(first)
}

/// Both have seen the same version. Who comes second is told, and nothing is lost.
async fn change(vault: &Vault, bank: &EntityId, seen: Version) -> Result<(), BoxError> {
    let one = vault.put(bank, &json!({ "note": SECRET, "logins": 1 }), Expect::Version(seen)).await?;
    println!("   one expects version {}, and wrote version {}", seen.number, one.number);
    match vault.put(bank, &json!({ "note": "overwritten" }), Expect::Version(seen)).await {
        Err(error @ VaultError::Conflict { .. }) => println!("   the other, too, and lost: {error}"),
        _ => return Err("a change was lost".into()),
    }
    let now = vault.update(bank, |account| {
        let logins = account["logins"].as_u64().ok_or("logins are no number")?;
        account["logins"] = json!(logins + 1);
        Ok(())
    });
    println!("   an update reads and writes under one lock: version {}", now.await?.number);
    println!("   got: {}", vault.get(bank).await?.json::<Value>()?);
    Ok(())
}

async fn rotate_and_rewrap(vault: &Vault, file: &KeyringFile, bank: &EntityId) -> Result<(), BoxError> {
    let (before, version) = (vault.keyring().active().0, vault.get(bank).await?.version());
    let ring = Arc::new(file.rotate(&vault.keyring()).await?);
    vault.set_keyring(Arc::clone(&ring));
    for key in ring.info().keys {
        let use_of_it = match key.state {
            KeyState::Active => "seals from now on",
            _ => "opens what it sealed",
        };
        println!("   rotated: {} {use_of_it}", key.id);
    }
    let done = vault.rewrap(RewrapOptions::default(), &mut |_| {}).await?;
    println!("   rewrapped: {} entities are sealed again, {} failed", done.rewrapped, done.failed);
    let entity = vault.get(bank).await?;
    if entity.version() != version || entity.metadata().key_id() == before.to_string() {
        return Err("another version, or the former key".into());
    }
    println!("   {bank} is version {} as before", version.number);
    Ok(())
}

async fn verify(vault: &Vault) -> Result<(), BoxError> {
    let found = vault.verify().await?;
    println!("   verified: {} entities open, {} do not", found.entities, found.damaged.len());
    for (key, entities) in &found.keys {
        println!("   {entities} of them by {key}");
    }
    if let Some(damaged) = found.damaged.first() {
        return Err(format!("{} does not open", damaged.path.display()).into());
    }
    Ok(())
}

fn search(dir: &Path) -> Result<(), BoxError> {
    let Search { files, bytes, found } = Search::below(dir, SECRET.as_bytes())?;
    println!("   {files} files, {} in all, were searched for {SECRET:?}", size(bytes));
    match found.first() {
        Some(path) => Err(format!("the secret stands in {}", path.display()).into()),
        None => {
            println!("   it stands in none; the names of entities can be read, their contents cannot");
            Ok(())
        }
    }
}

/// A look for some bytes in all files of a folder.
#[derive(Debug, Default)]
struct Search {
    files: u64,
    bytes: u64,
    /// Those that hold them.
    found: Vec<PathBuf>,
}

impl Search {
    fn below(dir: &Path, wanted: &[u8]) -> Result<Self, BoxError> {
        let mut search = Self::default();
        for entry in WalkDir::new(dir) {
            let entry = entry?;
            if entry.file_type().is_file() {
                let content = fs::read(entry.path())?;
                search.files += 1;
                search.bytes += content.len() as u64;
                if content.windows(wanted.len()).any(|part| part == wanted) {
                    search.found.push(entry.into_path());
                }
            }
        }
        Ok(search)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_search_finds_what_stands_in_some_file() {
        let temp = tempfile::tempdir().unwrap();
        let put = |name: &str, content: &[u8]| {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create_new(&path).unwrap().write_all(content).unwrap();
            path
        };
        put("a/without", b"nothing");
        put("empty", b"");
        let with = put("a/b/with", format!("before{SECRET}behind").as_bytes());
        let search = Search::below(temp.path(), SECRET.as_bytes()).unwrap();
        assert_eq!((search.files, search.found), (3, vec![with]));
        assert_eq!(search.bytes as usize, 7 + 12 + SECRET.len());
    }
}
