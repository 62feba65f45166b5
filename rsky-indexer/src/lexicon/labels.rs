//! Labels that an author puts on a record, and `app.bsky.labeler.service`, whose records define labels.

use super::schema::{Array, Format, Member, Object, Type, items, member, optional, required, string, up_to};

pub(super) static SELF_LABELS: &[Member] =
    &[member("com.atproto.label.defs#selfLabels", &SELF_LABELS_OBJECT)];

static SELF_LABELS_OBJECT: Object = Object(&[required("values", Type::Array(&SELF_LABEL_LIST))]);

static SELF_LABEL_LIST: Array = up_to(10, Type::Ref(&SELF_LABEL));

static SELF_LABEL: Object = Object(&[required("val", string().bytes(128).any())]);

/// `app.bsky.labeler.service`
pub(super) static SERVICE: Object = Object(&[
    required("policies", Type::Ref(&POLICIES)),
    optional("labels", Type::Union(SELF_LABELS)),
    required("createdAt", string().format(Format::Datetime)),
    optional("reasonTypes", Type::Array(&STRINGS)),
    optional("subjectTypes", Type::Array(&STRINGS)),
    optional("subjectCollections", Type::Array(&NSIDS)),
]);

static STRINGS: Array = items(string().any());

static NSIDS: Array = items(string().format(Format::Nsid));

/// `app.bsky.labeler.defs#labelerPolicies`
static POLICIES: Object = Object(&[
    required("labelValues", Type::Array(&STRINGS)),
    optional("labelValueDefinitions", Type::Array(&DEFINITIONS)),
]);

static DEFINITIONS: Array = items(Type::Ref(&DEFINITION));

/// `com.atproto.label.defs#labelValueDefinition`
static DEFINITION: Object = Object(&[
    required("identifier", string().bytes(100).graphemes(100).any()),
    required("severity", string().any()),
    required("blurs", string().any()),
    optional("defaultSetting", string().any()),
    optional("adultOnly", Type::Boolean),
    required("locales", Type::Array(&LOCALES)),
]);

static LOCALES: Array = items(Type::Ref(&LOCALE));

static LOCALE: Object = Object(&[
    required("lang", string().format(Format::Language)),
    required("name", string().bytes(640).graphemes(64).any()),
    required("description", string().bytes(100_000).graphemes(10_000).any()),
]);
