//! What a program that may die tells about itself, one line each, in the order in which it happened.

use std::io::{self, Write};

use locus::{FileKey, UploadId};
use serde::{Deserialize, Serialize};

/// An intent is noted before the call, what came of it before the next step. A file is known by the number of its write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// The store is being opened.
    Opening,
    /// It is open.
    Opened,
    /// Content of so many bytes is about to be written.
    Write {
        /// The number of the write.
        n: u64,
        /// Its length.
        bytes: u64,
    },
    /// It was confirmed.
    Wrote {
        /// The number of the write.
        n: u64,
        /// Its key.
        key: FileKey,
    },
    /// It was refused: it did not happen.
    Refused {
        /// The number of the write.
        n: u64,
    },
    /// A file was handed out, and its content was what it should be.
    Leased {
        /// The number of its write.
        n: u64,
        /// Its key.
        key: FileKey,
    },
    /// A file is about to be completed or deleted.
    End {
        /// The number of its write.
        n: u64,
    },
    /// It was confirmed.
    Ended {
        /// The number of its write.
        n: u64,
    },
    /// It was refused: it did not happen.
    Kept {
        /// The number of its write.
        n: u64,
    },
    /// An upload was begun.
    Begun {
        /// Its name.
        id: UploadId,
    },
    /// A piece of it was confirmed.
    Piece {
        /// Which, from 0 on.
        at: u64,
    },
    /// All pieces are confirmed, and the upload is about to be finished.
    Finishing,
    /// What a content moved through the program cost it.
    Streamed {
        /// Most memory beyond what the program had when the store was open, in bytes.
        extra_bytes: u64,
        /// How long it took to come in, in milliseconds.
        in_ms: u64,
        /// How long it took to go out, in milliseconds.
        out_ms: u64,
    },
    /// A barrier is about to begin.
    Sync {
        /// Which, since the store was opened.
        id: u64,
    },
    /// It was confirmed.
    Synced {
        /// Which.
        id: u64,
    },
    /// A call failed in a way that a caller has to expect.
    Error {
        /// Which call.
        op: String,
        /// The error and its causes, as they are shown and as they are debugged.
        text: String,
    },
    /// A promise was broken under the program's eyes.
    Broken {
        /// Which.
        text: String,
    },
    /// The program is over by itself.
    Over,
}

impl Note {
    /// Tells it to whoever started the program. One write, so that lines of several tasks do not mix.
    pub fn tell(&self) {
        let mut line = serde_json::to_string(self).expect("because notes are plain data");
        line.push('\n');
        io::stdout().lock().write_all(line.as_bytes()).expect("because it goes to a file");
    }

    /// All that was told. A last line that was cut short was not.
    #[must_use]
    pub fn all(text: &str) -> Vec<Self> {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("because tell wrote it")).collect()
    }
}
