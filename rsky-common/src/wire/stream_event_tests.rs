use super::*;

fn parsed(json: &str) -> StreamEvent<'_> {
    parse(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

#[test]
fn records_borrow_from_the_entry() {
    let json = r#"{"type":"create","record":{"a":[1,2]},"cid":"bafyr","seq":7,"time":"T","did":"did:plc:a","commit":"bafyc","rev":"3k","collection":"a.b.c","rkey":"r"}"#;
    let StreamEvent::Create(event) = parsed(json) else { panic!("no create") };
    assert_eq!(event.record.get(), r#"{"a":[1,2]}"#);
    assert!(matches!(event.did, Cow::Borrowed("did:plc:a")));
    assert!(matches!(event.rkey, Cow::Borrowed("r")));
    assert!(!event.is_backfill());
}

#[test]
fn escapes_are_understood() {
    let json = r#"{"type":"delete","seq":7,"time":"T","did":"did:plc:\u0061","commit":"c","rev":"3k","collection":"a.b.c","rkey":"r\"\n"}"#;
    let StreamEvent::Delete(event) = parsed(json) else { panic!("no delete") };
    assert_eq!((event.did.as_ref(), event.rkey.as_ref()), ("did:plc:a", "r\"\n"));
    assert!(matches!(
        parsed(r#"{"\u0074ype":"re\u0070o","did":"d","rev":"r","commit":"c"}"#),
        StreamEvent::Repo(_)
    ));
}

#[test]
fn members_in_any_order_with_others_among_them() {
    let json = r#" {"rkey":"r", "extra":{"x":[null]}, "collection":"a.b.c", "rev":"3k", "commit":"c", "did":"d",
        "time":"T", "cid":"bafyr", "record": {"a": 1} , "seq": -1, "type":"update"} "#;
    let StreamEvent::Update(event) = parsed(json) else { panic!("no update") };
    assert_eq!(event.record.get(), r#"{"a": 1}"#);
    assert!(event.is_backfill());
}

#[test]
fn any_negative_seq_is_backfill_and_none_is_not() {
    for (seq, backfill) in [("-2", true), ("-1", true), ("0", false), ("5", false), ("null", false)] {
        let json = format!(
            r#"{{"type":"create","record":{{}},"cid":"x","seq":{seq},"time":"T","did":"d","commit":"c","rev":"r","collection":"a.b.c","rkey":"k"}}"#
        );
        let StreamEvent::Create(event) = parsed(&json) else { panic!("no create") };
        assert_eq!(event.is_backfill(), backfill, "{seq}");
        let json = format!(
            r#"{{"type":"delete","seq":{seq},"time":"T","did":"d","commit":"c","rev":"r","collection":"a.b.c","rkey":"k"}}"#
        );
        let StreamEvent::Delete(event) = parsed(&json) else { panic!("no delete") };
        assert_eq!(event.is_backfill(), backfill, "{seq}");
    }
    let StreamEvent::Repo(event) =
        parsed(r#"{"type":"repo","seq":9,"did":"d","rev":"r","commit":"c","time":"T"}"#)
    else {
        panic!("no repo")
    };
    assert_eq!(event.time.as_deref(), Some("T"));
}

#[test]
fn accounts_of_both_writers() {
    for (status, expected) in [
        (r#","status":"deactivated""#, Some("deactivated")),
        (r#","status":"Takendown""#, Some("takendown")),
        (r#","status":null"#, None),
        ("", None),
    ] {
        let json = format!(r#"{{"type":"account","seq":1,"time":"T","did":"d","active":false{status}}}"#);
        let StreamEvent::Account(event) = parsed(&json) else { panic!("no account") };
        assert_eq!((event.active, event.status.as_deref()), (false, expected));
    }
}

#[test]
fn identities_with_and_without_handle() {
    for (handle, expected) in
        [(r#","handle":"a.test""#, Some("a.test")), (r#","handle":null"#, None), ("", None)]
    {
        let json = format!(r#"{{"type":"identity","seq":1,"time":"T","did":"d"{handle}}}"#);
        let StreamEvent::Identity(event) = parsed(&json) else { panic!("no identity") };
        assert_eq!((event.handle.as_deref(), parsed(&json).did()), (expected, Some("d")));
    }
}

#[test]
fn unknown_types_are_told() {
    let event = parsed(r#"{"type":"future","anything":1}"#);
    assert!(matches!(&event, StreamEvent::Unknown(kind) if kind == "future"));
    assert_eq!(event.did(), None);
}

#[test]
fn what_is_no_entry_is_an_error() {
    for json in ["", "null", "0", "\"\"", "false", "[]", "[\"create\"]"] {
        assert!(matches!(parse(json), Err(WireError::NotAnObject | WireError::Json(_))), "{json}");
    }
    for json in ["{", "{} {}", r#"{"type":1}"#, r#"{"type":"repo","did":7}"#, r#"{"type":"repo","seq":1.5}"#]
    {
        assert!(matches!(parse(json), Err(WireError::Json(_))), "{json}");
    }
    assert!(matches!(parse("{}"), Err(WireError::Missing { field: "type", .. })));
    let no_cid = r#"{"type":"create","record":{},"time":"T","did":"d","commit":"c","rev":"r","collection":"a.b.c","rkey":"k"}"#;
    assert!(matches!(parse(no_cid), Err(WireError::Missing { kind: "create", field: "cid" })));
    assert!(matches!(
        parse(r#"{"type":"account","did":"d","time":"T"}"#),
        Err(WireError::Missing { kind: "account", field: "active" })
    ));
}
