//! The drawing of the crates in ARCHITECTURE.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

use crate::documents::{read, root};

type Edges = BTreeSet<(String, String)>;

/// The lines of the drawing, top to bottom: a crate and those that it uses.
fn drawing() -> Vec<(String, Vec<String>)> {
    let page = read("ARCHITECTURE.md");
    let drawing = page.split("```mermaid").nth(1).expect("there is no drawing");
    let lines = drawing.split("```").next().unwrap_or_default().lines();
    let arrows = lines.filter_map(|line| line.split_once("-->"));
    arrows
        .map(|(from, to)| (from.trim().into(), to.split('&').map(|to| to.trim().into()).collect()))
        .collect()
}

/// The normal dependencies among the packages of the workspace.
fn manifests() -> (BTreeSet<String>, Edges) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut edges = Edges::new();
    let mut names = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        names.insert(text(&package["name"]));
        for dependency in package["dependencies"].as_array().unwrap() {
            let is_ours = !dependency["path"].is_null();
            if is_ours && dependency["kind"].is_null() {
                edges.insert((text(&package["name"]), text(&dependency["name"])));
            }
        }
    }
    (names, edges)
}

#[test]
fn the_drawing_of_the_crates_is_what_the_manifests_say() {
    let drawn = drawing().into_iter();
    let drawn: Edges =
        drawn.flat_map(|(from, to)| to.into_iter().map(move |to| (from.clone(), to))).collect();
    let (names, edges) = manifests();
    assert!(names.contains("locus-core"), "{names:?}");
    assert_eq!(drawn, edges, "left: drawn in ARCHITECTURE.md, right: in the manifests");
    let named: BTreeSet<_> = drawn.into_iter().flat_map(|(from, to)| [from, to]).collect();
    assert_eq!(named, names, "left: drawn in ARCHITECTURE.md, right: in the workspace");
}

#[test]
fn arrows_of_the_drawing_point_down_only() {
    let lines = drawing();
    let place: BTreeMap<_, _> = lines.iter().enumerate().map(|(place, (from, _))| (from, place)).collect();
    assert_eq!(place.len(), lines.len(), "a crate has two lines");
    for (at, (from, to)) in lines.iter().enumerate() {
        for to in to {
            assert!(place.get(to).is_none_or(|below| *below > at), "{from} --> {to} points up");
        }
    }
}
