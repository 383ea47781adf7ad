//! Tables, and numbers as people read them.

use bytesize::ByteSize;
use comfy_table::{CellAlignment, Table, presets};

/// A table with these heads, whose first column is text and whose others are as they come.
pub(crate) fn table<const N: usize>(heads: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(heads);
    table
}

/// Puts the columns after the first `texts` ones to the right, as numbers stand.
pub(crate) fn align_numbers(table: &mut Table, texts: usize) {
    for column in table.column_iter_mut().skip(texts) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}
