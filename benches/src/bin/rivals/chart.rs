//! Charts: one for each durability and size, with a panel for each number in flight.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use locus_benches::{
    BoxError,
    cycles::{Kind, Outcome, Rests},
    size, thousands,
};
use plotters::prelude::*;

const WIDTH: u32 = 1_000;
const ROW: u32 = 22;
const HEAD: u32 = 34;
const TITLE: u32 = 64;
// Where bars begin, and how long the longest is.
const LEFT: u32 = 320;
const LONGEST: u32 = 600;

/// Writes them into `out`, which is made if need be. Gives their paths.
pub(crate) fn write(all: &[Outcome], out: &Path) -> Result<Vec<PathBuf>, BoxError> {
    fs::create_dir_all(out)?;
    let mut sheets: Vec<(&'static str, usize)> = Vec::new();
    for outcome in all {
        let sheet = (outcome.label.promise.durability(), outcome.size_bytes);
        if !sheets.contains(&sheet) {
            sheets.push(sheet);
        }
    }
    let mut written = Vec::new();
    for (durability, bytes) in sheets {
        let path = out.join(format!("{durability}-{}.svg", size(bytes).replace(' ', "")));
        let of =
            all.iter().filter(|one| (one.label.promise.durability(), one.size_bytes) == (durability, bytes));
        let title = format!("{durability}, contents of {}: cycles per second", size(bytes));
        draw(&path, &title, &panels(of)).map_err(|error| error.to_string())?;
        written.push(path);
    }
    Ok(written)
}

type Panel<'a> = (usize, Vec<&'a Outcome>);

/// By number in flight, the fastest first.
fn panels<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Vec<Panel<'a>> {
    let mut panels: Vec<Panel<'a>> = Vec::new();
    for outcome in outcomes {
        match panels.iter_mut().find(|(in_flight, _)| *in_flight == outcome.in_flight) {
            Some((_, bars)) => bars.push(outcome),
            None => panels.push((outcome.in_flight, vec![outcome])),
        }
    }
    for (_, bars) in &mut panels {
        bars.sort_by(|a, b| b.cycles_per_second().median.total_cmp(&a.cycles_per_second().median));
    }
    panels
}

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Locus(_) => RGBColor(0, 114, 178),
        Kind::Floor(_) => RGBColor(110, 110, 110),
        Kind::LeanFloor => RGBColor(185, 185, 185),
        Kind::Tuned => RGBColor(213, 94, 0),
        Kind::Stock => RGBColor(230, 159, 0),
    }
}

/// What the colours say.
const LEGEND: [(&str, Kind); 5] = [
    ("Locus", Kind::Locus(Rests::Journal)),
    ("floor", Kind::Floor(Rests::Journal)),
    ("leaner floor", Kind::LeanFloor),
    ("rival, tuned", Kind::Tuned),
    ("rival, as first written", Kind::Stock),
];

fn draw(path: &Path, title: &str, panels: &[Panel<'_>]) -> Result<(), Box<dyn Error>> {
    let rows: usize = panels.iter().map(|(_, bars)| bars.len()).sum();
    let height = TITLE + HEAD * panels.len() as u32 + ROW * rows as u32 + ROW;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let text = |x: u32, y: u32, points: u32, words: String| {
        Text::new(words, (x as i32, y as i32), ("sans-serif", points).into_font())
    };
    root.draw(&text(12, 10, 24, title.into()))?;
    for (nth, (words, kind)) in LEGEND.into_iter().enumerate() {
        let x = 12 + 160 * nth as u32;
        root.draw(&Rectangle::new([(x as i32, 42), (x as i32 + 12, 54)], colour(kind).filled()))?;
        root.draw(&text(x + 18, 42, 16, words.into()))?;
    }
    let mut y = TITLE;
    for (in_flight, bars) in panels {
        root.draw(&text(12, y + 10, 19, format!("{in_flight} in flight")))?;
        y += HEAD;
        let most = bars.first().map_or(1.0, |one| one.cycles_per_second().median.max(f64::MIN_POSITIVE));
        for bar in bars {
            let rate = bar.cycles_per_second().median;
            let end = LEFT + (f64::from(LONGEST) * rate / most).round().max(1.0) as u32;
            let corners = [(LEFT as i32, y as i32 + 2), (end as i32, (y + ROW) as i32 - 2)];
            root.draw(&Rectangle::new(corners, colour(bar.label.kind).filled()))?;
            let name = format!("{}, {} completions", bar.label.name, bar.label.promise.completions());
            root.draw(&text(12, y + 4, 16, name))?;
            root.draw(&text(end + 6, y + 4, 16, thousands(rate)))?;
            y += ROW;
        }
    }
    Ok(root.present()?)
}

#[cfg(test)]
mod tests {
    use locus_benches::cycles::{Label, Promise};

    use super::*;

    fn outcome(name: &str, promise: Promise, in_flight: usize, rate: f64) -> Outcome {
        let mut outcome =
            Outcome::new(Label::new(name, Kind::Locus(Rests::Journal), promise), 1_024, in_flight);
        outcome.rates.push(rate);
        outcome
    }

    #[test]
    fn a_chart_has_a_bar_for_everybody_the_fastest_first() {
        let out = tempfile::tempdir().unwrap();
        let all = [
            outcome("slow", Promise::Durable, 1, 100.0),
            outcome("fast", Promise::Durable, 1, 12_345.0),
            outcome("elsewhere", Promise::Durable, 64, 7.0),
            outcome("buffered", Promise::Buffered, 1, 7.0),
        ];
        let charts = write(&all, out.path()).unwrap();
        let names = charts.iter().filter_map(|path| path.file_name()?.to_str()).collect::<Vec<_>>();
        assert_eq!(names, ["durable-1KiB.svg", "buffered-1KiB.svg"]);
        let chart = fs::read_to_string(&charts[0]).unwrap();
        let place = |words| chart.find(words).unwrap_or_else(|| panic!("{words} is not in the chart"));
        assert!(place("fast, durable") < place("slow, durable"));
        assert!(place("slow, durable") < place("64 in flight") && place("12,345") > 0);
        assert_eq!(chart.matches("#0072B2").count(), 1 + 3, "the legend, and bars of Locus");
    }
}
