//! A tour of what Locus does. Each item is a function of a few lines that can be copied into a program.

use std::{
    io::{self, BufRead, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use locus::prelude::*;
use locus_core::BoxError;

use crate::{
    fault::in_one_line,
    table::{align_numbers, size, table},
};

/// Too long for the journal.
const LONG_BYTES: usize = 100 << 10;

const MENU: &str = "
 1  write a file and read it       5  workers that run at the same time
 2  tenants do not see each other  6  a file that fails comes back
 3  a quota that is full           7  statistics
 4  a tenant that is disabled      a  all of them    q  quit";

/// Shows the menu, runs what is chosen, until `q` or the end of the input. Says whether everything went as it should.
pub(crate) async fn tour() -> Result<bool, BoxError> {
    let dir = tempfile::tempdir()?;
    let locus = Locus::builder()
        .data_dir(dir.path())
        .add_volume(LocalVolume::new("vol-001", dir.path().join("vol-001")))
        .add_tenant("acme")
        .add_tenant("globex")
        .retry_policy(RetryPolicy { initial_delay: Duration::from_millis(200), ..RetryPolicy::default() })
        .build()
        .await?;
    println!("An empty store in {}. It goes with the tour.", dir.path().display());
    println!("{MENU}");
    let mut all_succeeded = true;
    while let Some(choice) = next_choice().await? {
        let items: &[char] = match choice.as_str() {
            "1" => &['1'],
            "2" => &['2'],
            "3" => &['3'],
            "4" => &['4'],
            "5" => &['5'],
            "6" => &['6'],
            "7" => &['7'],
            "a" | "all" => &['1', '2', '3', '4', '5', '6', '7'],
            "q" | "quit" => break,
            "" => continue,
            other => {
                println!("there is no item {other:?}{MENU}");
                continue;
            }
        };
        for item in items {
            if let Err(error) = show(*item, &locus).await {
                println!("   this went wrong: {}", in_one_line(&*error));
                all_succeeded = false;
            }
        }
    }
    locus.shutdown().await?;
    Ok(all_succeeded)
}

async fn show(item: char, locus: &Locus) -> Result<(), BoxError> {
    let title = match item {
        '1' => "write a file and read it",
        '2' => "tenants do not see each other",
        '3' => "a quota that is full",
        '4' => "a tenant that is disabled",
        '5' => "workers that run at the same time",
        '6' => "a file that fails comes back",
        _ => "statistics",
    };
    println!("\n{item}. {title}");
    match item {
        '1' => write_and_read(locus).await,
        '2' => isolation(locus).await,
        '3' => quota(locus).await,
        '4' => disabled_tenant(locus).await,
        '5' => concurrent_workers(locus).await,
        '6' => retry(locus).await,
        _ => statistics(locus).await,
    }
}

async fn write_and_read(locus: &Locus) -> Result<(), BoxError> {
    let acme = locus.tenants().get("acme").await?;
    let options = WriteOptions::new().original_name("hello.txt").directory("/letters");
    let key = locus.pool().write(&acme, "hello, Locus", options).await?;
    println!("   written as {key}: from now on it survives power loss");

    let content = locus.pool().read(&acme, &key).await?.bytes().await?;
    println!("   read: {:?}", String::from_utf8_lossy(&content));
    let part = locus.pool().read_range(&acme, &key, 0..5).await?;
    println!("   its first five bytes: {:?}", String::from_utf8_lossy(&part));
    tell_place(locus, &acme, &key).await?;
    let path = locus.pool().materialize(&acme, &key).await?;
    println!("   asked for a path, it lies in {} from now on", path.display());

    let long = locus.pool().write(&acme, vec![b'.'; LONG_BYTES], WriteOptions::new()).await?;
    println!("   another one, of {}:", size(LONG_BYTES as u64));
    tell_place(locus, &acme, &long).await?;
    for key in [key, long] {
        locus.pool().delete(&acme, &key).await?;
    }
    println!("   deleted");
    Ok(())
}

/// Small content rests in the journal, where it has no path; what is longer is a file on a volume.
async fn tell_place(locus: &Locus, tenant: &TenantContext, key: &FileKey) -> Result<(), BoxError> {
    let place = locus.pool().location(tenant, key).await?.ok_or("the file is gone")?;
    let status = place.info.status;
    match (place.volume_id, place.physical_path) {
        (Some(volume), Some(path)) => {
            println!("   it is {status} and lies on {volume}, in {}", path.display());
        }
        (Some(volume), None) => println!("   it is {status} and lies on {volume}, which knows no paths"),
        (None, _) => println!("   it is {status} and rests in the journal: it has no path"),
    }
    Ok(())
}

async fn isolation(locus: &Locus) -> Result<(), BoxError> {
    let acme = locus.tenants().get("acme").await?;
    let globex = locus.tenants().get("globex").await?;
    let key = locus.pool().write(&acme, "for acme's eyes only", WriteOptions::new()).await?;

    match locus.pool().read(&globex, &key).await {
        Err(error @ Error::FileNotFound { .. }) => println!("   globex reads acme's file: {error}"),
        _ => return Err("globex saw a file of acme".into()),
    }
    println!("   globex asks for work: {:?}", locus.scheduler().next(&globex).await?.map(|file| file.key));
    locus.pool().delete(&acme, &key).await?;
    Ok(())
}

async fn quota(locus: &Locus) -> Result<(), BoxError> {
    let small = get_or_create(locus, "small").await?;
    locus.quotas().set_limit(Scope::Tenant(small.id().clone()), Limit::Files(2)).await?;
    let mut keys = Vec::new();
    let refused = loop {
        match locus.pool().write(&small, "one more", WriteOptions::new()).await {
            Ok(key) => keys.push(key),
            Err(error) => break error,
        }
    };
    println!("   {} files were taken, then: {refused}", keys.len());
    locus.pool().delete(&small, keys.first().ok_or("a limit of 2 took nothing")?).await?;
    locus.cleanup().settled().await?; // room is given back when the bytes are gone
    keys.push(locus.pool().write(&small, "one more", WriteOptions::new()).await?);
    println!("   after one was deleted there is room again");
    for key in keys {
        match locus.pool().delete(&small, &key).await {
            Ok(()) | Err(Error::FileNotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    locus.cleanup().settled().await?;
    Ok(())
}

async fn disabled_tenant(locus: &Locus) -> Result<(), BoxError> {
    let guest = get_or_create(locus, "guest").await?;
    let key = locus.pool().write(&guest, "still here later", WriteOptions::new()).await?;

    locus.tenants().disable("guest").await?; // in force at once, also for `guest`, which was obtained before
    for refused in [
        locus.pool().write(&guest, "no", WriteOptions::new()).await.err(),
        locus.pool().read(&guest, &key).await.err(),
        locus.scheduler().next(&guest).await.err(),
    ] {
        println!("   refused: {}", refused.ok_or("a disabled tenant was allowed something")?);
    }
    locus.tenants().enable("guest").await?;
    println!("   enabled again: {} bytes are there", locus.pool().read(&guest, &key).await?.len());
    locus.pool().delete(&guest, &key).await?;
    Ok(())
}

async fn concurrent_workers(locus: &Locus) -> Result<(), BoxError> {
    let acme = locus.tenants().get("acme").await?;
    for n in 0..100 {
        let options = WriteOptions::new().original_name(format!("{n}.txt"));
        locus.pool().write(&acme, format!("content {n}"), options).await?;
    }
    let (running, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&most);
    let done = locus
        .workers(&acme)
        .concurrency(8)
        .run_until_drained(move |file: WorkerFile| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let content = file.bytes().await;
                running.fetch_sub(1, Ordering::SeqCst);
                content?; // an error would bring the file back later
                Ok(())
            }
        })
        .await?;
    let most = seen.load(Ordering::SeqCst);
    println!("   {} files completed, each by one worker, up to {most} at a time", done.completed);
    Ok(())
}

async fn retry(locus: &Locus) -> Result<(), BoxError> {
    let globex = locus.tenants().get("globex").await?;
    locus.pool().write(&globex, "stubborn", WriteOptions::new()).await?;
    let done = locus
        .workers(&globex)
        .run_until_drained(|file: WorkerFile| async move {
            println!("   attempt {}, failed {} times before", file.attempt, file.retry_count);
            if file.retry_count < 2 { Err("not yet".into()) } else { Ok(()) }
        })
        .await?;
    println!("   {} failures, then {} completed", done.failed, done.completed);
    Ok(())
}

async fn statistics(locus: &Locus) -> Result<(), BoxError> {
    locus.cleanup().settled().await?;
    let mut tenants = table(["tenant", "status", "files", "limit"]);
    for tenant in locus.tenants().list().await? {
        let usage = locus.quotas().usage(&Scope::Tenant(tenant.id.clone()));
        let limit = usage.limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        tenants.add_row([tenant.id.to_string(), tenant.status.to_string(), usage.files.to_string(), limit]);
    }
    align_numbers(&mut tenants, 2);
    println!("{tenants}");

    let (free, all) = (locus.pool().available_space(), locus.pool().total_capacity());
    let store = locus.statistics();
    println!("   volumes: {} of {} free", size(free), size(all));
    println!("   journal: {}, {} checkpoints so far", size(store.journal_bytes), store.checkpoints);
    let (inside, bytes) = (store.files_in_journal, size(store.bytes_in_journal));
    println!("   files in the journal, without a path: {inside}, of {bytes}");
    for volume in locus.pool().volumes() {
        println!("   files on {}, each with a path: {}", volume.id, volume.files);
    }
    println!("   removed after completion: {} files", locus.cleanup().statistics().completed_removed);
    Ok(())
}

async fn get_or_create(locus: &Locus, name: &str) -> Result<TenantContext, Error> {
    match locus.tenants().try_get(name).await? {
        Some(tenant) => Ok(tenant),
        None => locus.tenants().create(name).await,
    }
}

/// The next line, trimmed; `None` at the end of the input.
async fn next_choice() -> Result<Option<String>, BoxError> {
    print!("\n> ");
    io::stdout().flush()?;
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|read| (read > 0).then_some(line))
    });
    Ok(line.await??.map(|line| line.trim().to_lowercase()))
}
