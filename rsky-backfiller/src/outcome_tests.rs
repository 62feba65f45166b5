use std::collections::BTreeSet;

use super::*;

#[test]
fn every_class_has_its_own_name_and_is_found_by_it() {
    let names: BTreeSet<&str> = Class::ALL.iter().map(|class| class.name()).collect();
    assert_eq!(names.len(), Class::ALL.len());
    for class in Class::ALL {
        assert_eq!(Class::named(class.name()), Some(*class));
    }
}

#[test]
fn who_is_told_follows_from_what_is_done() {
    for class in Class::ALL {
        let Row { action, told, sentence, name, .. } = class.row();
        let letter = matches!(action, Action::Again | Action::Confirm | Action::Bury);
        assert_eq!(letter, told == Told::Letter, "{name}");
        assert!(action != Action::Later || told == Told::Readiness, "{name}: nobody would learn of it");
        assert!(sentence.ends_with('.') && sentence.len() > 20, "{name}");
    }
}

#[test]
fn what_hosts_say_is_kept_in_bounds() {
    let failure = Failure::new(Class::WrongDid, "é".repeat(1 << 20));
    assert!(failure.error.len() <= 1024 && failure.error.starts_with('é'), "{}", failure.error.len());
}

fn said(name: &str, message: &str) -> Refusal {
    Refusal { name: name.to_owned(), message: message.to_owned() }
}

#[test]
fn answers_are_classed_by_name_before_status() {
    for (status, name, class) in [
        (400, "RepoNotFound", Class::Gone),
        (404, "RepoNotFound", Class::Gone),
        (400, "RepoDeactivated", Class::Deactivated),
        (400, "RepoSuspended", Class::Suspended),
        (400, "RepoTakendown", Class::TakenDown),
        (429, "RateLimitExceeded", Class::RateLimited),
        (429, "RepoNotFound", Class::RateLimited),
        (503, "", Class::Overloaded),
        (500, "InternalServerError", Class::ServerError),
        (500, "NotFound", Class::ServerError),
        (502, "", Class::ServerError),
        (403, "Forbidden", Class::ClientError),
        (404, "", Class::NotXrpc),
        (403, "", Class::NotXrpc),
        (302, "", Class::RefusedAddress),
        (410, "", Class::Gone),
    ] {
        assert_eq!(of_answer(status, &said(name, "")), class, "{status} {name}");
    }
}

#[test]
fn accounts_that_are_gone_are_told_in_many_words() {
    for (name, message) in [
        ("NotFound", ""),
        ("InvalidRequest", "Could not find repo for DID: did:plc:a"),
        ("InvalidRequest", "Could not find root for DID: did:plc:a"),
        ("InvalidRequest", "Repo not found"),
        ("Repo not found", ""),
        ("", "repo not found"),
    ] {
        for status in [400, 404] {
            assert_eq!(of_answer(status, &said(name, message)), Class::Gone, "{status} {name} {message}");
        }
        let class = of_answer(500, &said(name, message));
        assert_eq!(class, Class::ServerError, "a server that fails does not know");
    }
    let other = said("InvalidRequest", "Error: Params must have the property \"did\"");
    assert_eq!(of_answer(400, &other), Class::ClientError);
}

#[test]
fn a_page_says_nothing_about_an_account() {
    let page = b"<html><title>404</title>Repo not found</html>";
    assert_eq!(Refusal::parse(page), Refusal::default());
    assert_eq!(of_answer(404, &Refusal::parse(page)), Class::NotXrpc);
    assert_eq!(of_answer(404, &Refusal::parse(b"repo not found\n")), Class::Gone);
    assert_eq!(Refusal::parse(br#"{"error":"A","message":"b","more":1}"#), said("A", "b"));
    assert_eq!(Refusal::parse(&[0xff; 10]), Refusal::default());
}

#[test]
fn nothing_that_a_peer_can_do_is_buried_at_once() {
    let peers = [
        Failure::from(CarStreamError::Truncated).class,
        Failure::from(MstError::MissingNode).class,
        Failure::from(CommitError::NotAMap).class,
        Failure::from(SignatureError::Mismatch).class,
        of_document(&ResolveError::TooLarge, Directory::PlcDown).class,
        of_document(&ResolveError::TooLarge, Directory::Web).class,
        of_document(&ResolveError::Status(500), Directory::PlcOfOthers).class,
        of_answer(200, &Refusal::default()),
        of_answer(599, &Refusal::default()),
    ];
    for class in peers {
        assert_ne!(class.action(), Action::Bury, "{}", class.name());
    }
    let ours = Failure::from(std::io::Error::from(std::io::ErrorKind::StorageFull)).class;
    assert_eq!(ours.action(), Action::Later);
    let plc =
        of_document(&ResolveError::Document(DocumentError::Malformed(String::new())), Directory::PlcDown);
    assert_eq!(plc.class.action(), Action::Wait);
}
