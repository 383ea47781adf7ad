//! Watchers on three folders, and workers beside them, until it is killed.

use std::{fs::File, io::Write, sync::Arc, time::Duration};

use locus::prelude::*;
use locus_tests::{Plan, content};
use tokio::runtime;

pub(crate) fn run(plan: &Plan) {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let [one, several, moved] = plan.roots().map(|root| {
            let watcher = FileWatcherConfig::new(root).polling_interval(Duration::from_secs(1));
            watcher.age_min(Duration::ZERO).stability_delay(Duration::ZERO).concurrent_imports(16)
        });
        let locus = plan
            .builder()
            .add_file_watcher(one.tenant("acme"))
            .add_file_watcher(several.multi_tenant(true).auto_create_tenant_directories(true))
            .add_file_watcher(moved.tenant("globex").after_import(AfterImport::Move(plan.dir.join("moved"))))
            .build()
            .await
            .unwrap();
        let delivered = File::options().create(true).append(true).open(plan.dir.join("delivered"));
        let (delivered, seed) = (Arc::new(delivered.unwrap()), plan.seed);
        let deliver = move |file: WorkerFile| {
            let delivered = Arc::clone(&delivered);
            async move {
                let name = file.original_name.clone().unwrap();
                let bytes = file.bytes().await?;
                let n = Plan::number(Some(&name)).unwrap();
                let is_whole = bytes == content(seed, n, bytes.len() as u64) && !bytes.is_empty();
                // One write: a line is there whole or not at all.
                (&*delivered).write_all(format!("{name} {} {is_whole}\n", file.key).as_bytes())?;
                Ok(())
            }
        };
        locus.workers_any().concurrency(16).run(deliver).await.unwrap();
    });
}
