//! The whole engine as a state machine beside the naive model, with crashes and jumps of the clock among the operations. A
//! story that fails is made as short as it can be.

use locus_core::Durability;
use locus_torture::{
    enumerate::Letter,
    story::{self, Step, play},
};
use proptest::prelude::*;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => prop::sample::select(Letter::ALL).prop_map(Step::Call),
        1 => Just(Step::PowerCut),
        1 => Just(Step::Kill),
        1 => (-3_i8..=3).prop_map(Step::Jump),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn b1_whatever_is_called_and_however_it_ends_the_state_is_the_models(
        steps in prop::collection::vec(step(), 1..60),
        is_durable in any::<bool>(),
    ) {
        let durability = if is_durable { Durability::Durable } else { Durability::Buffered };
        if let Err(violation) = play(&steps, durability, 4 << 10, 1) {
            panic!("{violation}");
        }
    }
}

#[test]
fn b90_segments_are_used_again_in_long_stories_and_nothing_is_missed() {
    for steps in story::long_ones() {
        for (seed, durability) in
            [(1, Durability::Durable), (1, Durability::Buffered), (2, Durability::Buffered)]
        {
            let report = story::run(&steps, durability, seed);
            assert!(report.is_clean(), "{:#?}", report.violations);
        }
    }
}
