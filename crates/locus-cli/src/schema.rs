//! The verbs of schemas.

use locus_vault::{SCHEMA_BYTES_MAX, SchemaMode};
use serde_json::{Value, json};

use crate::{
    args::{PlaceArgs, Schema, SchemaGetArgs, SchemaInArgs},
    content,
    failure::{Code, Failure, shown},
};

pub(crate) async fn execute(verb: Schema) -> Result<(), Failure> {
    match verb {
        Schema::Put(args) => put(args).await,
        Schema::Get(args) => get(args).await,
        Schema::Ls(place) => ls(place).await,
        Schema::Check(args) => check(args).await,
    }
}

fn document(args: &SchemaInArgs, max: usize) -> Result<Value, Failure> {
    let bytes = content::read(args.input.as_deref(), max)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        // The place alone: what stands there may be secret.
        let why = format!("it is no JSON, at line {}, column {}", error.line(), error.column());
        Failure::Said { code: Code::Refused, why: why.into() }
    })
}

async fn put(args: SchemaInArgs) -> Result<(), Failure> {
    args.place.blobs().await?;
    let document = document(&args, SCHEMA_BYTES_MAX)?;
    let version = args.place.schemas().put(&args.id, document).await?;
    args.place.out().say(version, || json!({"id": args.id, "version": version}))
}

async fn get(args: SchemaGetArgs) -> Result<(), Failure> {
    args.place.blobs().await?;
    let schema = args.place.schemas().get(&args.id, args.version).await?;
    args.place.out().say(
        format!("{:#}", schema.document),
        || json!({"id": schema.id, "version": schema.version, "document": schema.document}),
    )
}

async fn ls(place: PlaceArgs) -> Result<(), Failure> {
    place.blobs().await?;
    let all = place.schemas().list().await?;
    let lines: Vec<String> = all.iter().map(|(id, version)| format!("{}\t{version}", shown(id))).collect();
    place.out().say(lines.join("\n"), || {
        let each = all.iter().map(|(id, version)| json!({"id": id, "version": version}));
        json!({ "schemas": each.collect::<Vec<_>>() })
    })
}

async fn check(args: SchemaInArgs) -> Result<(), Failure> {
    args.place.blobs().await?;
    let content = document(&args, 64 << 20)?;
    let version = args.place.schemas().check(SchemaMode::Required, Some(&args.id), content).await?;
    let text = format!("it keeps to version {}", version.unwrap_or_default());
    args.place.out().say(text, || json!({"id": args.id, "version": version}))
}
