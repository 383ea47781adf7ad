//! Who takes part.

use std::{path::Path, sync::Arc};

use locus_benches::{BoxError, cycles::Contender};
use locus_vault::Keyring;
use tokio::runtime::Runtime;

use crate::{
    bare::{Bare, How},
    ours::{Ours, What},
};

/// What is called again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// A content in the place of the one before, durably.
    Put,
    /// The content.
    Get,
}

impl Call {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Put => "Durable puts, each in the place of what was there",
            Self::Get => "Gets, of what the system has in memory",
        }
    }
}

/// All who make this call, each with files of its own in `dir`.
pub(crate) fn enter(
    call: Call,
    dir: &Path,
    content: &[u8],
    ring: &Arc<Keyring>,
    runtime: &Runtime,
) -> Result<Vec<Box<dyn Contender>>, BoxError> {
    let (ours, bare) = match call {
        Call::Put => (
            [What::Bytes, What::Json, What::JsonBySchema],
            &[How::OnThreads, How::FromTasks, How::Leaner][..],
        ),
        Call::Get => ([What::Bytes, What::Cached, What::Json], &[How::OnThreads, How::FromTasks][..]),
    };
    let mut all: Vec<Box<dyn Contender>> = Vec::new();
    for (at, what) in ours.into_iter().enumerate() {
        let dir = dir.join(format!("vault-{at}"));
        all.push(Box::new(Ours::open(&dir, call, what, content, ring, runtime)?));
    }
    for (at, how) in bare.iter().enumerate() {
        let dir = dir.join(format!("bare-{at}"));
        all.push(Box::new(Bare::create(&dir, call, *how, content, runtime.handle())?));
    }
    // The two that are held against each other follow each other in every turn.
    all.swap(1, ours.len());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use locus_benches::cycles::{Load, content};
    use locus_vault::{Argon2Cost, KeyringFile, NewRecipient, Passphrase};

    use super::*;

    #[test]
    fn everybody_makes_every_call_and_notices_another_content() {
        let (temp, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let first = NewRecipient::passphrase("test", Passphrase::new(b"x").unwrap()).cost(cost);
        let file = KeyringFile::at(temp.path().join("keyring"));
        let ring = Arc::new(runtime.block_on(file.create(first)).unwrap());
        let (content, other) = (content(5_000), content(4_999));
        for call in [Call::Put, Call::Get] {
            let all = enter(call, &temp.path().join(call.name()), &content, &ring, &runtime).unwrap();
            let names = all.iter().map(|one| one.label().name.clone()).collect::<Vec<_>>();
            assert_eq!(&names[..2], ["vault", "bare"], "{names:?}");
            for one in &all {
                let load = Load { in_flight: 4, cycles_max: 20, time_max: Duration::MAX };
                assert_eq!(one.round(load, &content).unwrap().times.len(), 20, "{one:?}");
                let keeps_to_bytes = call == Call::Get && !one.label().name.contains("JSON");
                assert_eq!(one.round(load, &other).is_err(), keeps_to_bytes, "{}", one.label().name);
            }
        }
    }
}
