//! Files that failed for good: looked at, brought back, removed.

use locus::{DeadLetters, FileLocation, prelude::*};
use locus_core::BoxError;

use crate::{
    args::{DeadLetterAction, DeadLetterArgs},
    existing,
    table::{size, table},
};

/// Dead letters that are listed at a time.
const PAGE: usize = 256;

pub(crate) async fn dead_letters(args: DeadLetterArgs) -> Result<(), BoxError> {
    let picks = args.dry_run || args.error.is_some() || args.name.is_some();
    if picks && args.action == DeadLetterAction::List {
        return Err("--error, --name and --dry-run go with requeue and purge: list shows all".into());
    }
    let locus = existing::open(&args.data, None).await?;
    let done = act(&locus, &args).await;
    locus.shutdown().await?;
    done
}

async fn act(locus: &Locus, args: &DeadLetterArgs) -> Result<(), BoxError> {
    let letters = locus.dead_letters();
    let tenants = match &args.tenant {
        Some(tenant) => vec![locus.tenants().get(tenant).await?],
        None => {
            let mut tenants = Vec::new();
            for tenant in letters.tenants() {
                tenants.push(locus.tenants().get(tenant.as_str()).await?);
            }
            tenants
        }
    };
    let mut filter = DeadLetterFilter::new();
    if let Some(text) = &args.error {
        filter = filter.error_contains(text);
    }
    if let Some(text) = &args.name {
        filter = filter.name_contains(text);
    }
    match args.action {
        DeadLetterAction::List => list(&letters, &tenants).await?,
        DeadLetterAction::Requeue => {
            for tenant in &tenants {
                if args.dry_run {
                    let count = letters.count(tenant, &filter).await?;
                    println!("{}: {count} would be requeued", tenant.id());
                    continue;
                }
                let report = letters.requeue_all(tenant, &filter).await?;
                println!("{}: {} requeued, {} could not be", tenant.id(), report.requeued, report.failed);
                if let Some(why) = report.first_failure {
                    println!("  {why}");
                }
            }
        }
        DeadLetterAction::Purge => {
            for tenant in &tenants {
                if args.dry_run {
                    let count = letters.count(tenant, &filter).await?;
                    println!("{}: {count} would be purged", tenant.id());
                    continue;
                }
                let purged = letters.purge_all(tenant, &filter).await?;
                println!("{}: {purged} purged", tenant.id());
            }
            locus.cleanup().settled().await?;
        }
    }
    Ok(())
}

async fn list(letters: &DeadLetters, tenants: &[TenantContext]) -> Result<(), BoxError> {
    let mut rows = table(["tenant", "key", "name", "size", "failures", "last error", "where"]);
    for tenant in tenants {
        let mut from = None;
        loop {
            let page = letters.list(tenant, from, PAGE).await?;
            for letter in page.letters {
                rows.add_row(row(letter));
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
    }
    println!("{rows}");
    Ok(())
}

fn row(letter: FileLocation) -> [String; 7] {
    let info = letter.info;
    let place = letter.physical_path.map(|path| path.display().to_string());
    [
        info.tenant.to_string(),
        info.key.to_string(),
        info.original_name.unwrap_or_default(),
        size(info.size),
        info.retry_count.to_string(),
        letter.last_error.unwrap_or_default(),
        place.unwrap_or_default(),
    ]
}
