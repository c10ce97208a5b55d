//! What a user sees.

use crate::read;
use proxy_config::Format;

#[test]
fn mistakes_are_shown_with_their_lines() {
    let text = "maxKonnections: 500\nroutes:\n  - name: a\n    match: { ports: 80 }\n    action: { type: block }\n  \
        - name: a\n    match: { ports: 80 }\n    action: { type: blok }\n    security: { allowedIps: [] }\n";
    let found = read(text, Format::Yaml).unwrap_err();
    let expected = r#"error: "maxKonnections" is no key that is known here
 --> proxy:1:1
  |
1 | maxKonnections: 500
  | ^^^^^^^^^^^^^^ maxKonnections
  |
  = help: did you mean "maxConnections"?

error: two routes are named "a"
 --> proxy:6:11
  |
6 |   - name: a
  |           ^ routes[1].name
  |
 ::: proxy:3:11
  |
3 |   - name: a
  |           ^ the other one
  |
  = help: give each a name of its own

error: "blok" is none of "forward", "redirect", "block" and "static"
 --> proxy:8:21
  |
8 |     action: { type: blok }
  |                     ^^^^ routes[1].action.type
  |
  = help: did you mean "block"?

warning: "allowedIps" is the old name of "ipAllowList"
 --> proxy:9:17
  |
9 |     security: { allowedIps: [] }
  |                 ^^^^^^^^^^ routes[1].security.allowedIps
  |
  = help: write "ipAllowList""#;
    assert_eq!(found.to_string(), expected);
}

#[test]
fn a_value_of_several_lines_is_shown_by_its_first() {
    let found = read("{\n  \"routes\": {\n    \"a\": 1\n  }\n}", Format::Json).unwrap_err();
    let expected = r#"error: this should be a list of routes, not a table
 --> proxy:2:13
  |
2 |   "routes": {
  |             ^ routes"#;
    assert_eq!(found.to_string(), expected);
}
