//! A content of unknown length, in and out.

use std::time::Duration;

use locus::{Clock, SystemClock, prelude::*};
use locus_tests::{Note, Pattern, Plan};
use tokio::{io::AsyncReadExt, runtime};

/// What a worker takes at once.
const BUFFER: usize = 64 << 10;

pub(crate) fn run(plan: &Plan, bytes: u64) {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let locus = plan.open().await.unwrap();
        let acme = locus.tenants().get(Plan::tenant(0)).await.unwrap();
        let (clock, before) = (SystemClock::new(), memory("VmRSS:"));

        let pattern = Pattern::new(plan.seed, bytes);
        let content = Content::reader(pattern.clone());
        let key = locus.pool().write(&acme, content, WriteOptions::new()).await.unwrap();
        Note::Wrote { n: plan.first, key }.tell();
        let came = clock.monotonic();

        let file = locus.scheduler().next(&acme).await.unwrap().unwrap();
        assert_eq!((file.key, file.size), (key, bytes));
        let mut reader = locus.pool().read_leased(&file.lease).await.unwrap();
        let (mut judge, mut buffer) = (pattern, vec![0; BUFFER]);
        loop {
            let read = reader.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            assert!(judge.goes_on_with(&buffer[..read]), "other content");
        }
        assert!(judge.is_over(), "it ends before its end");
        let went = clock.monotonic();

        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
        let extra_bytes = memory("VmHWM:").saturating_sub(before);
        Note::Streamed { extra_bytes, in_ms: millis(came), out_ms: millis(went - came) }.tell();
        locus.scheduler().complete(&file.lease).await.unwrap();
        locus.cleanup().settled().await.unwrap();
        locus.shutdown().await.unwrap();
    });
}

/// A figure of this process, in bytes: what it holds now, or the most that it ever held.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}
