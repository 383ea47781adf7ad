//! What a real kernel does to a program and its disks: kills at any moment and at each system call, calls that fail, file
//! systems that are shut down without a flush, run full, become read-only or have no inodes left, limits of the process.
//!
//! A program of its own ([`victim`]) works on a store and tells what it is about to do, and what was confirmed, in a file
//! on another file system. When it is dead, [`book`] opens the store and holds it against these notes.
//!
//! What needs root, loop devices, `strace` or xfsprogs says on the standard error that it was skipped where these are
//! missing; with `LOCUS_KERNEL_REQUIRED=1` it fails there. How long the stories are:
//!
//! | variable | what | default |
//! |---|---|---|
//! | `LOCUS_KILLS` | kills at random moments | 200 |
//! | `LOCUS_KILL_CALLS` | kills at system calls, each durability; 0: at every call of the short story | 24 |
//! | `LOCUS_FAULT_CALLS` | system calls that fail, each durability; 0: every one, with every error | 24 |
//! | `LOCUS_SHUTDOWNS` | shutdowns of each file system | 6 |
//! | `LOCUS_UPLOAD_MIB` | length of the content whose upload is killed | 20 |
//! | `LOCUS_STREAM_MIB` | length of the content that is streamed in and out | 256 |

mod book;
mod calls;
mod files;
mod inodes;
mod keys;
mod kills;
mod limits;
mod modes;
mod need;
mod read_only;
mod shutdown;
mod strace;
mod streams;
mod uploads;
pub(crate) mod victim;

pub(crate) use need::{Need, can};
