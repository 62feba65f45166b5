//! What an account says about itself: profile, status and declarations.

use super::STRONG_REF;
use super::embeds::STATUS_EMBED;
use super::labels::SELF_LABELS;
use super::schema::{Format, Object, Type, optional, required, string};

/// `app.bsky.actor.profile`
pub(super) static PROFILE: Object = Object(&[
    optional("displayName", string().bytes(640).graphemes(64).any()),
    optional("description", string().bytes(2560).graphemes(256).any()),
    optional("pronouns", string().bytes(200).graphemes(20).any()),
    optional("website", string().format(Format::Uri)),
    optional("avatar", Type::Blob),
    optional("banner", Type::Blob),
    optional("labels", Type::Union(SELF_LABELS)),
    optional("joinedViaStarterPack", Type::Ref(&STRONG_REF)),
    optional("pinnedPost", Type::Ref(&STRONG_REF)),
    optional("createdAt", string().format(Format::Datetime)),
]);

/// `app.bsky.actor.status`
pub(super) static STATUS: Object = Object(&[
    required("status", string().any()),
    optional("embed", Type::Union(STATUS_EMBED)),
    optional("durationMinutes", Type::Integer { minimum: Some(1) }),
    required("createdAt", string().format(Format::Datetime)),
]);

/// `app.bsky.notification.declaration`
pub(super) static NOTIFICATION_DECLARATION: Object =
    Object(&[required("allowSubscriptions", string().any())]);

/// `chat.bsky.actor.declaration`
pub(super) static CHAT_DECLARATION: Object = Object(&[required("allowIncoming", string().any())]);
