//! Watched folders: drop files into them and see them processed.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use locus::prelude::*;
use locus_core::BoxError;

use crate::{args::WatchArgs, plan, stop::Stop, table::size};

/// Who may drop files.
const TENANTS: [&str; 2] = ["acme", "globex"];

/// Watches the folders of the settings until Ctrl-C, or until so many files were processed as were asked for.
pub(crate) async fn watch(args: WatchArgs) -> Result<(), BoxError> {
    let settings = match &args.config {
        Some(file) => Settings::load(file)?,
        None => plan::settings_with_watchers()?,
    };
    if settings.watchers.is_empty() {
        return Err("the settings name no [[watchers]]".into());
    }
    for watcher in &settings.watchers {
        fs::create_dir_all(&watcher.path).map_err(Error::io("make the folder", &watcher.path))?;
    }
    let volume = LocalVolume::new("vol-001", args.data.join("vol-001"));
    let builder = Locus::builder().settings(settings).data_dir(&args.data).add_volume(volume);
    let locus = TENANTS.into_iter().fold(builder, locus::Builder::add_tenant).build().await?;
    let done = show(&locus, args.files).await;
    locus.shutdown().await?;
    done
}

async fn show(locus: &Locus, files: Option<u64>) -> Result<(), BoxError> {
    for watcher in locus.watchers().list() {
        let whose = watcher.config.tenant.as_deref().unwrap_or("the tenant that its first folder names");
        println!("drop files of {whose} into {}", watcher.config.path.display());
    }
    let stop = Stop::new();
    stop.at_ctrl_c(|| println!("stopping: files in hand are finished first"));
    let (seen, asked) = (Arc::new(AtomicU64::new(0)), stop.clone());
    let process = move |file: WorkerFile| {
        let (seen, asked) = (Arc::clone(&seen), asked.clone());
        async move {
            let bytes = file.bytes().await?;
            let name = file.original_name.as_deref().unwrap_or("a file");
            println!("{}{} {name}: {}", file.tenant, in_folder(&file), size(bytes.len() as u64));
            if files == Some(seen.fetch_add(1, Ordering::SeqCst) + 1) {
                asked.now();
            }
            Ok(())
        }
    };
    let workers = locus.workers_any().spawn(process)?;
    stop.asked().await;
    workers.stop().await?;
    for watcher in locus.watchers().list() {
        let total = watcher.total;
        println!("{}: {} imported, {}", watcher.id, total.imported, size(total.bytes));
        for (why, count) in total.skipped {
            println!("  {count} times a file stayed, because it {why}");
        }
    }
    Ok(())
}

fn in_folder(file: &WorkerFile) -> String {
    if file.directory.is_root() { String::new() } else { format!(" {}", file.directory.as_str()) }
}
