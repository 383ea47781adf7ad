//! Names that were made to do harm.

use crate::SeededEntropy;

/// What such names are made of.
const PIECES: [&str; 56] = [
    "..",
    "../",
    "/",
    "//",
    "./",
    "/etc/passwd",
    "../../../../etc/cron.d/x",
    "%2e%2e%2f",
    "..%c0%af",
    "\u{ff0e}\u{ff0e}\u{ff0f}",
    "\\",
    "..\\",
    "C:\\",
    "\\\\server\\share",
    "\\\\?\\",
    "file://",
    "~",
    "~root/",
    "$HOME",
    "`id`",
    "\0",
    "\0.txt",
    "\n",
    "\r\n",
    "\t",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{85}",
    " ",
    "  .",
    "CON",
    "con.txt",
    "NUL",
    "aux.",
    "COM1",
    "lpt9.log",
    "CLOCK$",
    "conin$",
    ":stream",
    "::$DATA",
    "\u{202e}fdp.exe",
    "\u{200f}",
    "\u{2066}",
    "\u{feff}",
    "\u{301}",
    "\u{1f4a9}",
    "\u{fffd}",
    "\u{10ffff}",
    "*?<>|\"",
    "-rf",
    ".",
    "...",
    ".locus-volume",
    ".staging",
    ".pdf",
    ".tar.gz",
];

/// Bounds that somebody may have forgotten: of names and paths of systems, of an extension, and of an original name.
const LENGTHS: [u64; 6] = [16, 255, 1_024, 4_096, 65_536, 70_000];

/// An endless sequence of hostile names, each with parts of a path, bytes that end a string, names that systems reserve,
/// signs that turn writing round, or far too much of it.
#[derive(Debug)]
pub struct HostileNames(SeededEntropy);

impl HostileNames {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[usize::try_from(self.0.below(from.len() as u64)).expect("because it is an index")]
    }

    /// A piece, or any character at all, also as an extension.
    fn push_any(&self, name: &mut String) {
        match self.0.below(8) {
            0 => name.extend(char::from_u32(u32::try_from(self.0.below(0x11_0000)).unwrap_or(0))),
            1 => name.push(char::from(u8::try_from(self.0.below(128)).unwrap_or(0))),
            2 => {
                name.push('.');
                (0..self.0.below(19))
                    .for_each(|_| name.push(self.pick(&['a', 'Z', '0', '9', 'e', '\u{e9}'])));
            }
            _ => name.push_str(self.pick(&PIECES)),
        }
    }
}

impl Iterator for HostileNames {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut name = String::new();
        (0..=self.0.below(6)).for_each(|_| self.push_any(&mut name));
        if self.0.below(50) == 0 {
            let length = self.pick(&LENGTHS) + self.0.below(3);
            let filling = self.pick(&["a", "../", "\u{202e}", "\0"]);
            let missing = usize::try_from(length).unwrap_or(0).saturating_sub(name.len() + 1);
            name.insert_str(0, &filling.repeat(missing / filling.len()));
            self.push_any(&mut name);
        }
        Some(name)
    }
}
