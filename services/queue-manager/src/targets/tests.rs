//! What may be set: a change of these lists is a decision.

use super::*;

#[test]
fn no_request_sets_a_connection_or_what_the_plan_sets() {
    let mut lists = String::new();
    for target in TARGETS {
        let names: Vec<_> = target.settable().map(|variable| variable.name).collect();
        lists.push_str(&format!("{}: {}\n", target.service, names.join(" ")));
    }
    insta::assert_snapshot!(lists);
}

#[test]
fn a_dummy_plays_the_part_that_its_variables_give_it() {
    let dummy = Target::find("dummy-service").unwrap();
    for (name, value, role) in [
        ("DUMMY_PUBLISH_RATE", "10", Role::Loader),
        ("DUMMY_CONSUME", "true", Role::Writer),
        ("DUMMY_CONSUME", "false", Role::Dummy),
        ("DUMMY_NOOP", "true", Role::Dummy),
    ] {
        let env = Vars::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(dummy.role(&env), role, "{name}={value}");
    }
}
