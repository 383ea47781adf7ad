//! The verbs of a vault.

use std::{path::Path, sync::Arc};

use data_encoding::{BASE64, HEXLOWER};
use locus_fs::{OsDisk, create_dirs};
use locus_vault::{
    EntityMetadata, Expect, ImportOptions, Imported, NewRecipient, PutOptions, SchemaModes, Unreadable,
    Vault, VaultError, VaultOptions,
};
use serde_json::{Value, json};

use crate::{
    args::{
        self, ChangeArgs, EntityArgs, GetArgs, ImportArgs, InitArgs, Keys, LsArgs, OpenArgs, PlaceArgs,
        PutArgs, RmArgs, Schema,
    },
    content,
    failure::{Code, Failure, in_one_line, optional, shown},
    keys, lock,
    out::Out,
    schema, secret,
};

/// Longest content, in bytes: what a vault takes unless it is told otherwise.
const CONTENT_BYTES_MAX: usize = 64 << 20;

/// What was deleted is remembered for so long: what a vault does unless it is told otherwise.
const TOMBSTONE_RETENTION: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3_600);

pub(crate) async fn execute(verb: args::Vault) -> Result<(), Failure> {
    use args::Vault as V;
    match verb {
        V::Init(args) => init(args).await,
        V::Put(args) => put(args).await,
        V::Get(args) => get(args).await,
        V::Stat(args) => stat(args).await,
        V::Ls(args) => ls(args).await,
        V::Rm(args) => rm(args).await,
        V::Lock(args) => lock::lock(args).await,
        V::Verify(args) => verify(args).await,
        V::Import(args) => import(args).await,
        V::Sweep(args) => sweep(args).await,
        V::Keys(verb) => keys::execute(verb).await,
        V::Schema(verb) => schema::execute(verb).await,
    }
}

/// Whether the verb was told to speak JSON.
pub(crate) fn is_json(verb: &args::Vault) -> bool {
    use args::Vault as V;
    let place = match verb {
        V::Init(args) => &args.open.place,
        V::Put(args) => &args.entity.open.place,
        V::Get(args) => &args.entity.open.place,
        V::Stat(args) => &args.open.place,
        V::Ls(args) => &args.place,
        V::Rm(args) => &args.entity.open.place,
        V::Lock(args) => &args.place,
        V::Verify(args) => &args.place,
        V::Import(args) => &args.open.place,
        V::Sweep(place) => place,
        V::Keys(verb) => match verb {
            Keys::List(args) | Keys::Rotate(args) => &args.place,
            Keys::Rewrap(args) => &args.open.place,
            Keys::Retire(args) => &args.open.place,
            Keys::Add(args) => &args.open.place,
            Keys::Remove(args) => &args.open.place,
            Keys::Backup(args) => &args.place,
            Keys::Restore(args) => &args.open.place,
            Keys::Identity(args) => return args.json,
        },
        V::Schema(verb) => match verb {
            Schema::Put(args) | Schema::Check(args) => &args.place,
            Schema::Get(args) => &args.place,
            Schema::Ls(place) => place,
        },
    };
    place.json
}

impl PlaceArgs {
    pub(crate) fn out(&self) -> Out {
        Out { json: self.json }
    }
}

async fn init(args: InitArgs) -> Result<(), Failure> {
    let InitArgs { open: OpenArgs { place, unlock }, name, cost } = args;
    let file = place.keyring_file();
    let ring = match (file.inspect().await, place.blobs().await) {
        (Ok(_), Ok(_)) => return Err(VaultError::KeyringExists { path: place.keyring() }.into()),
        // An earlier call was interrupted between the two.
        (Ok(_), Err(Failure::NoVault(_))) => place.ring(&unlock).await?,
        (Ok(_), Err(other)) => return Err(other),
        (Err(VaultError::KeyringNotFound { .. }), there) => {
            if there.is_ok() {
                // What is in it is sealed by keys that a new ring does not have.
                return Err(VaultError::KeyringNotFound { path: place.keyring() }.into());
            }
            let passphrase = unlock.first()?;
            create_dirs(&OsDisk, &place.dir)
                .map_err(|source| VaultError::WriteFailed { path: place.dir.clone(), source })?;
            file.create(NewRecipient::passphrase(name, passphrase).cost(cost.cost)).await?
        }
        (Err(error), _) => return Err(error.into()),
    };
    let (id, key) = (ring.info().id, ring.active().0);
    Vault::open(&place.dir, VaultOptions::new(Arc::new(ring))).await?;
    let text = format!("made a vault in {} with {id}", shown(&place.dir.display()));
    place.out().say(text, || json!({"ring": id.to_string(), "key": key.to_string()}))
}

impl ChangeArgs {
    fn options(&self, options: VaultOptions) -> VaultOptions {
        let options = options.lock_timeout(self.wait.lock_timeout);
        match &self.writer {
            Some(writer) => options.writer(writer),
            None => options,
        }
    }
}

async fn put(args: PutArgs) -> Result<(), Failure> {
    let PutArgs { entity: EntityArgs { open, id }, change, input, schema, schema_mode } = args;
    if input.is_none() && open.unlock.reads_stdin() {
        return Err(Failure::usage("stdin has the passphrase: give the content with --in"));
    }
    let modes = SchemaModes { default: schema_mode.into(), ..SchemaModes::default() };
    let options = change.options(open.options().await?).schemas(modes);
    let vault = Vault::open(&open.place.dir, options).await?;
    let mut content = content::read(input.as_deref(), CONTENT_BYTES_MAX)?;
    let how = PutOptions::from(change.expect);
    let how = match schema {
        Some(schema) => how.schema(schema),
        None => how,
    };
    // The vault overwrites it when it is done with it.
    let version = vault.put_bytes(&id, std::mem::take(&mut *content), how).await?;
    open.place.out().say(version, || json!({"id": id.to_string(), "version": version.to_string()}))
}

async fn get(args: GetArgs) -> Result<(), Failure> {
    let GetArgs { entity: EntityArgs { open, id }, out, schema } = args;
    if let Some(path) = &out {
        content::check_regular(path)?;
    }
    let vault = open.vault().await?;
    let entity = match schema {
        Some(schema) => vault.get_as(&id, &schema).await?,
        None => vault.get(&id).await?,
    };
    if !open.place.json {
        return content::write(out.as_deref(), entity.bytes());
    }
    let mut told = about(entity.metadata());
    match serde_json::from_slice::<Value>(entity.bytes()) {
        Ok(content) => told["content"] = content,
        Err(_) => told["content_base64"] = BASE64.encode(entity.bytes()).into(),
    }
    content::write(out.as_deref(), format!("{told}\n").as_bytes())
}

async fn stat(args: EntityArgs) -> Result<(), Failure> {
    let metadata = args.open.vault().await?.stat(&args.id).await?;
    let text = [
        ("entity", metadata.id.to_string()),
        ("version", metadata.version.to_string()),
        ("deleted", if metadata.is_deleted { "yes".into() } else { "no".into() }),
        ("bytes", metadata.content_len.to_string()),
        ("schema", metadata.schema.clone().unwrap_or_else(|| "-".into())),
        ("writer", metadata.writer.clone()),
        ("written at", metadata.written_at.to_string()),
        ("algorithm", metadata.algorithm().into_owned()),
        ("key", metadata.key_id().into_owned()),
        ("iv", HEXLOWER.encode(metadata.iv())),
        ("tag", if metadata.tag().is_empty() { "-".into() } else { HEXLOWER.encode(metadata.tag()) }),
    ];
    let lines: Vec<String> =
        text.iter().map(|(name, value)| format!("{name:<10}  {}", shown(value))).collect();
    args.open.place.out().say(lines.join("\n"), || about(&metadata))
}

async fn ls(args: LsArgs) -> Result<(), Failure> {
    let LsArgs { place, prefix } = args;
    let (blobs, out) = (place.blobs().await?, place.out());
    let (mut from, mut entries, mut unreadable) = (None, Vec::new(), Vec::new());
    loop {
        let page = blobs.list(from).await?;
        entries.extend(page.entries.into_iter().filter(|entry| entry.id.to_string().starts_with(&prefix)));
        unreadable.extend(page.unreadable);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    entries.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let line = |entry: &EntityMetadata| format!("{}\t{}\t{}", entry.id, entry.version, entry.content_len);
    let lines: Vec<String> = entries.iter().map(line).collect();
    out.say(lines.join("\n"), || {
        json!({
            "entities": entries.iter().map(about).collect::<Vec<_>>(),
            "unreadable": unreadable.iter().map(harm).collect::<Vec<_>>(),
        })
    })?;
    tell_all(out, &unreadable);
    if unreadable.is_empty() { Ok(()) } else { Err(Failure::Told(Code::Tampered)) }
}

async fn rm(args: RmArgs) -> Result<(), Failure> {
    let RmArgs { entity: EntityArgs { open, id }, change } = args;
    if change.expect == Expect::Absent {
        return Err(Failure::usage("what is absent cannot be removed: expect a version, or any"));
    }
    let options = change.options(open.options().await?);
    let version = Vault::open(&open.place.dir, options).await?.delete(&id, change.expect).await?;
    open.place.out().say(version, || json!({"id": id.to_string(), "version": version.to_string()}))
}

async fn verify(args: OpenArgs) -> Result<(), Failure> {
    let (vault, out) = (args.vault().await?, args.place.out());
    let progress = out.progress(1, "verified");
    progress.tick();
    let report = vault.verify().await?;
    progress.finish_and_clear();
    let keys = || report.keys.iter().map(|(key, count)| (key.to_string(), (*count).into()));
    let text = format!(
        "{} entities ({} bytes) and {} deleted ones open, {} are somebody else's, {} are damaged",
        report.entities,
        report.bytes,
        report.deleted,
        report.foreign,
        report.damaged.len()
    );
    out.say(text, || {
        json!({
            "entities": report.entities,
            "bytes": report.bytes,
            "deleted": report.deleted,
            "foreign": report.foreign,
            "keys": keys().collect::<serde_json::Map<_, _>>(),
            "damaged": report.damaged.iter().map(harm).collect::<Vec<_>>(),
        })
    })?;
    tell_all(out, &report.damaged);
    match report.damaged.iter().map(|damaged| Code::of(&damaged.why)).reduce(graver) {
        None => Ok(()),
        Some(code) => Err(Failure::Told(code)),
    }
}

/// A key that is lacking is the least of what can be wrong with an entity.
fn graver(one: Code, other: Code) -> Code {
    if one == Code::NoKey { other } else { one }
}

async fn import(args: ImportArgs) -> Result<(), Failure> {
    let ImportArgs { open, source, key_file, dry_run } = args;
    let (key, out) = (secret::key_file(&key_file)?, open.place.out());
    if !source.is_dir() {
        return Err(Failure::usage(format!("{} is no directory", source.display())));
    }
    let vault = Vault::open(&open.place.dir, open.options().await?).await?;
    let (mut files, mut told) = (Vec::new(), Ok(()));
    let mut note = |path: &Path, imported: &Imported| {
        let (state, what, version, why) = match imported {
            Imported::Entity { id, version } => ("imported", id.to_string(), *version, None),
            Imported::EntityThere { id } => ("there", id.to_string(), None, None),
            Imported::Schema { id } => ("imported", format!("schema {id}"), None, None),
            Imported::SchemaThere { id } => ("there", format!("schema {id}"), None, None),
            Imported::Failed { why } => ("failed", path.display().to_string(), None, Some(in_one_line(why))),
            _ => return,
        };
        if out.json {
            let (file, version, why) = (path.display().to_string(), optional(version), optional(why));
            files.push(json!({"file": file, "state": state, "what": what, "version": version, "why": why}));
        } else if told.is_ok() {
            let detail = version.map(|version| version.to_string()).or(why);
            let detail = detail.map(|detail| format!("\t{detail}")).unwrap_or_default();
            told = content::to_stdout(format!("{state}\t{}{detail}\n", shown(&what)).as_bytes());
        }
    };
    let options = ImportOptions::default().dry_run(dry_run);
    let report = vault.import(&source, &key, options, &mut note).await?;
    told?;
    out.say("", || {
        json!({
            "dry_run": dry_run,
            "entities": report.entities,
            "bytes": report.bytes,
            "entities_there": report.entities_there,
            "schemas": report.schemas,
            "schemas_there": report.schemas_there,
            "ignored": report.ignored,
            "failed": report.failed,
            "files": files,
        })
    })?;
    if report.failed == 0 { Ok(()) } else { Err(Failure::Told(Code::Failed)) }
}

async fn sweep(place: PlaceArgs) -> Result<(), Failure> {
    let out = place.out();
    let blobs = place.blobs_to_change(std::time::Duration::ZERO).await?;
    let report = blobs.sweep(TOMBSTONE_RETENTION).await?;
    let text = format!(
        "forgot {} deleted entities, removed {} drafts and {} locks, passed over {} that are in use",
        report.tombstones, report.drafts, report.locks, report.busy
    );
    out.say(text, || {
        json!({
            "tombstones": report.tombstones,
            "drafts": report.drafts,
            "locks": report.locks,
            "busy": report.busy,
            "failed": report.failed.iter().map(harm).collect::<Vec<_>>(),
        })
    })?;
    tell_all(out, &report.failed);
    if report.failed.is_empty() { Ok(()) } else { Err(Failure::Told(Code::Failed)) }
}

/// All that is known about an entity.
fn about(metadata: &EntityMetadata) -> Value {
    json!({
        "id": metadata.id.to_string(),
        "database": metadata.id.database(),
        "key": metadata.id.key(),
        "version": metadata.version.to_string(),
        "deleted": metadata.is_deleted,
        "bytes": metadata.content_len,
        "schema": optional(metadata.schema.as_ref()),
        "writer": metadata.writer,
        "written_at": metadata.written_at.to_string(),
        "algorithm": metadata.algorithm(),
        "key_id": metadata.key_id(),
        "iv": HEXLOWER.encode(metadata.iv()),
        "tag": HEXLOWER.encode(metadata.tag()),
    })
}

/// A file that cannot be read, or was not changed.
pub(crate) fn harm(unreadable: &Unreadable) -> Value {
    json!({"file": unreadable.path.display().to_string(), "why": in_one_line(&unreadable.why)})
}

/// Each on a line of stderr, unless they are in the JSON.
pub(crate) fn tell_all(out: Out, unreadable: &[Unreadable]) {
    if !out.json {
        for Unreadable { path, why } in unreadable {
            eprintln!("{}: {}", shown(&path.display()), in_one_line(why));
        }
    }
}
