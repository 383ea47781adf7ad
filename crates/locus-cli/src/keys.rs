//! The verbs of a keyring.

use std::fmt::Write as _;

use locus_core::SystemEntropy;
use locus_vault::{
    Identity, KeyState, Keyring, NewRecipient, RecipientKind, RetireOptions, RewrapOptions, RingInfo, Vault,
    VaultError,
};
use serde_json::{Value, json};

use crate::{
    args::{
        AddArgs, BackupArgs, IdentityArgs, Keys, OpenArgs, PlaceArgs, RemoveArgs, RestoreArgs, RetireArgs,
        RewrapArgs,
    },
    content,
    failure::{Code, Failure, shown},
    out::Out,
    secret::new_passphrase,
    vault::{harm, tell_all},
};

pub(crate) async fn execute(verb: Keys) -> Result<(), Failure> {
    match verb {
        Keys::List(args) => list(args).await,
        Keys::Rotate(args) => rotate(args).await,
        Keys::Rewrap(args) => rewrap(args).await,
        Keys::Retire(args) => retire(args).await,
        Keys::Add(args) => add(args).await,
        Keys::Remove(args) => remove(args).await,
        Keys::Backup(args) => backup(args).await,
        Keys::Restore(args) => restore(args).await,
        Keys::Identity(args) => identity(args),
    }
}

async fn list(args: OpenArgs) -> Result<(), Failure> {
    let proven = args.unlock.is_given();
    let info = if proven {
        args.place.ring(&args.unlock).await?.info()
    } else {
        args.place.keyring_file().inspect().await?
    };
    let mut text = format!("{}\ngeneration {}, written at {}", info.id, info.generation, info.written_at);
    if !proven {
        text.push_str(", not proven");
    }
    // A string takes all that is written to it.
    for key in &info.keys {
        let _ = write!(text, "\nkey        {}  {:<12}  since {}", key.id, state(key.state), key.changed_at);
    }
    for recipient in &info.recipients {
        let (name, kind) = (shown(&recipient.name), kind(&recipient.kind));
        let _ = write!(text, "\nrecipient  {}  {name}, by {kind}", recipient.id);
    }
    args.place.out().say(text, || ring_json(&info, proven))
}

fn state(state: KeyState) -> &'static str {
    match state {
        KeyState::Active => "active",
        KeyState::DecryptOnly => "decrypt-only",
        KeyState::Retired => "retired",
        _ => "unknown",
    }
}

fn kind(kind: &RecipientKind) -> String {
    match kind {
        RecipientKind::Passphrase { .. } => "passphrase".into(),
        RecipientKind::PublicKey => "public key".into(),
        RecipientKind::KeyWrap { provider } => format!("service {}", shown(provider)),
        _ => "unknown".into(),
    }
}

fn ring_json(info: &RingInfo, proven: bool) -> Value {
    let keys = info.keys.iter().map(|key| {
        json!({
            "id": key.id.to_string(),
            "state": state(key.state),
            "created_at": key.created_at.to_string(),
            "changed_at": key.changed_at.to_string(),
        })
    });
    let recipients = info.recipients.iter().map(|recipient| {
        json!({
            "id": recipient.id.to_string(),
            "name": recipient.name,
            "by": kind(&recipient.kind),
            "key": recipient.key.to_string(),
            "added_at": recipient.added_at.to_string(),
        })
    });
    json!({
        "ring": info.id.to_string(),
        "generation": info.generation,
        "written_at": info.written_at.to_string(),
        "proven": proven,
        "keys": keys.collect::<Vec<_>>(),
        "recipients": recipients.collect::<Vec<_>>(),
    })
}

/// Says what became of the ring.
fn changed(out: Out, what: &str, ring: &Keyring) -> Result<(), Failure> {
    let (info, key) = (ring.info(), ring.active().0);
    out.say(format!("{what}: the active key is {key}"), || ring_json(&info, true))
}

async fn rotate(args: OpenArgs) -> Result<(), Failure> {
    let ring = args.ring().await?;
    let ring = args.place.keyring_file().rotate(&ring).await?;
    changed(args.place.out(), "rotated", &ring)
}

async fn rewrap(args: RewrapArgs) -> Result<(), Failure> {
    let RewrapArgs { open, wait, bytes_per_second, entities_per_second } = args;
    let out = open.place.out();
    let options = open.options().await?.lock_timeout(wait.lock_timeout);
    let vault = Vault::open(&open.place.dir, options).await?;
    let pace =
        RewrapOptions::default().bytes_per_second(bytes_per_second).entities_per_second(entities_per_second);
    let bar = out.progress(256, "rewrapped");
    let mut progress = |at: &locus_vault::RewrapProgress| {
        bar.set_position(at.directories.into());
        bar.set_message(format!("{} of {} entities", at.rewrapped, at.looked_at));
    };
    let report = vault.rewrap(pace, &mut progress).await;
    bar.finish_and_clear();
    let report = report?;
    let text = format!(
        "rewrapped {} entities ({} bytes) by key {}, {} were already, {} are somebody else's, {} failed",
        report.rewrapped, report.bytes, report.key, report.already, report.foreign, report.failed
    );
    let left = || report.left.iter().map(|(key, count)| (key.to_string(), (*count).into()));
    out.say(text, || {
        json!({
            "key": report.key.to_string(),
            "rewrapped": report.rewrapped,
            "bytes": report.bytes,
            "already": report.already,
            "foreign": report.foreign,
            "failed": report.failed,
            "failures": report.failures.iter().map(harm).collect::<Vec<_>>(),
            "left": left().collect::<serde_json::Map<_, _>>(),
        })
    })?;
    tell_all(out, &report.failures);
    if report.failed == 0 { Ok(()) } else { Err(Failure::Told(Code::Failed)) }
}

async fn retire(args: RetireArgs) -> Result<(), Failure> {
    let RetireArgs { open, key, despite_unreadable } = args;
    let vault = Vault::open(&open.place.dir, open.options().await?).await?;
    let options = RetireOptions::default().despite_unreadable(despite_unreadable);
    vault.retire_key(&open.place.keyring_file(), key, options).await?;
    changed(open.place.out(), "retired", &vault.keyring())
}

async fn add(args: AddArgs) -> Result<(), Failure> {
    let AddArgs { open, name, recipient, new_passphrase_file, new_passphrase_fd, cost } = args;
    if open.unlock.reads_stdin() && new_passphrase_fd == Some(0) {
        return Err(Failure::usage("stdin has one passphrase: give the other one in a file"));
    }
    let ring = open.ring().await?;
    let recipient = match recipient {
        Some(key) => NewRecipient::public_key(name, key),
        None => {
            let whose = format!(" of {}", shown(&name));
            let passphrase = new_passphrase(new_passphrase_file.as_deref(), new_passphrase_fd, &whose)?;
            NewRecipient::passphrase(name, passphrase).cost(cost.cost)
        }
    };
    let ring = open.place.keyring_file().add_recipient(&ring, recipient).await?;
    changed(open.place.out(), "added", &ring)
}

async fn remove(args: RemoveArgs) -> Result<(), Failure> {
    let RemoveArgs { open, recipient } = args;
    let ring = open.ring().await?;
    let known = ring.info().recipients;
    let id = match recipient.parse() {
        Ok(id) => id,
        Err(_) => match known.iter().find(|known| known.name == recipient) {
            Some(known) => known.id,
            None => {
                let names: Vec<String> = known.iter().map(|known| shown(&known.name)).collect();
                let why =
                    format!("there is no recipient {}: there are {}", shown(&recipient), names.join(", "));
                eprintln!("error: {why}");
                return Err(Failure::Told(Code::NotFound));
            }
        },
    };
    let ring = open.place.keyring_file().remove_recipient(&ring, id).await?;
    changed(open.place.out(), "removed", &ring)
}

async fn backup(args: BackupArgs) -> Result<(), Failure> {
    let BackupArgs { place, out } = args;
    content::check_regular(&out)?;
    place.keyring_file().backup(&out).await?;
    let to = shown(&out.display());
    place.out().say(format!("copied the keyring to {to}"), || json!({ "file": out.display().to_string() }))
}

async fn restore(args: RestoreArgs) -> Result<(), Failure> {
    let RestoreArgs { open: OpenArgs { place, unlock }, input, despite_newer } = args;
    let copy = PlaceArgs { keyring: Some(input), ..place.clone() };
    let ring = OpenArgs { place: copy, unlock }.ring().await?;
    let ring = place.keyring_file().restore(ring, despite_newer).await?;
    changed(place.out(), "restored", &ring)
}

fn identity(args: IdentityArgs) -> Result<(), Failure> {
    let IdentityArgs { out, json } = args;
    if std::fs::symlink_metadata(&out).is_ok() {
        return Err(VaultError::KeyringExists { path: out }.into());
    }
    let identity = Identity::draw(&SystemEntropy);
    content::write(Some(&out), format!("{}\n", *identity.to_text()).as_bytes())?;
    let public = identity.recipient();
    Out { json }.say(public, || json!({ "recipient": public.to_string() }))
}
