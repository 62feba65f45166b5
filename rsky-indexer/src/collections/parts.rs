//! What hangs on a record beside its typed row: a post's embeds and mentions, a gate's rules (INDEXING §4.1, §4.4).
//!
//! Types are compared as they are written: `app.bsky.embed.images#main` passes the lexicon and is not indexed.

use super::row::blob_cid;
use super::{Collection, PartsKind};
use crate::text::at_uri::AtUri;
use crate::text::json::Json;

/// See [`PartsKind`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Parts {
    /// Nothing.
    #[default]
    None,
    /// Of a post.
    Post(Box<PostParts>),
    /// Of a thread gate.
    ThreadGate(Box<ThreadGate>),
    /// Of a post gate.
    PostGate(PostGate),
}

/// A post's parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostParts {
    /// DIDs of the mention facets, in order.
    pub mentions: Vec<String>,
    /// Images.
    pub images: Vec<Image>,
    /// Images of a gallery, for the schemas that have one.
    pub gallery: Vec<Image>,
    /// The card of a link.
    pub external: Option<External>,
    /// The record it shows.
    pub record: Option<StrongRef>,
    /// A video.
    pub video: Option<Video>,
}

/// An image and its place in the list it was in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// From 0; in a column of text.
    pub position: String,
    /// CID of the blob.
    pub cid: String,
    /// Description.
    pub alt: String,
}

/// The card of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Where it leads.
    pub uri: String,
    /// Title.
    pub title: String,
    /// Description.
    pub description: String,
    /// CID of the picture.
    pub thumb: Option<String>,
}

/// A version of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrongRef {
    /// Its at-uri.
    pub uri: String,
    /// Its CID.
    pub cid: String,
}

/// A video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// CID of the blob.
    pub cid: String,
    /// Description.
    pub alt: Option<String>,
}

/// What a thread gate allows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThreadGate {
    /// `None` where everybody may reply.
    pub allow: Option<Allow>,
    /// Replies that the owner has hidden.
    pub hidden: Vec<String>,
}

/// The rules of a gate that says who may reply; nobody if none of them is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    /// Whom the root mentions.
    pub mentioned: bool,
    /// Who follows the owner.
    pub followers: bool,
    /// Whom the owner follows.
    pub following: bool,
    /// Who is on one of these lists.
    pub lists: Vec<String>,
}

/// What a post gate forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PostGate {
    /// Whether the post may not be quoted.
    pub forbids_quotes: bool,
}

impl Parts {
    /// Takes a validated record apart.
    pub fn of(collection: &Collection, record: &Json<'_>) -> Self {
        match collection.parts {
            PartsKind::None => Self::None,
            PartsKind::Post => Self::Post(Box::new(PostParts::of(record))),
            PartsKind::ThreadGate => Self::ThreadGate(Box::new(ThreadGate::of(record))),
            PartsKind::PostGate => Self::PostGate(PostGate::of(record)),
        }
    }

    /// A post's.
    pub fn post(&self) -> Option<&PostParts> {
        if let Self::Post(parts) = self { Some(parts) } else { None }
    }
}

impl PostParts {
    fn of(record: &Json<'_>) -> Self {
        let mut parts = Self { mentions: mentions(record), ..Self::default() };
        if let Some(embed) = record.get("embed") {
            let kind = type_of(embed);
            if kind == Some("app.bsky.embed.recordWithMedia") {
                // The inner record embed has no type as a rule; one that it has wins.
                if let Some(inner) = embed.get("record") {
                    parts.add(type_of(inner).unwrap_or("app.bsky.embed.record"), inner);
                }
                if let Some(media) = embed.get("media") {
                    parts.add(type_of(media).unwrap_or_default(), media);
                }
            } else {
                parts.add(kind.unwrap_or_default(), embed);
            }
        }
        parts
    }

    fn add(&mut self, kind: &str, embed: &Json<'_>) {
        match kind {
            "app.bsky.embed.images" => self.images = images(embed.get("images"), None),
            "app.bsky.embed.gallery" => {
                self.gallery = images(embed.get("items"), Some("app.bsky.embed.gallery#image"));
            }
            "app.bsky.embed.external" => self.external = embed.get("external").and_then(external),
            "app.bsky.embed.record" => self.record = embed.get("record").and_then(strong_ref),
            "app.bsky.embed.video" => {
                self.video = embed.get("video").and_then(blob_cid).map(|cid| Video {
                    cid: clean(cid),
                    alt: embed.get("alt").and_then(Json::as_str).map(clean),
                });
            }
            _ => {}
        }
    }
}

impl Parts {}

impl Allow {
    /// The accounts whose follows and followers, or whose lists, the rules look at.
    pub fn looks_at<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a str> {
        let owner = (self.followers || self.following).then_some(owner);
        let lists = self.lists.iter().filter_map(|list| Some(AtUri::parse(list)?.host()));
        owner.into_iter().chain(lists)
    }
}

impl ThreadGate {
    /// Of a gate's record.
    pub fn of(record: &Json<'_>) -> Self {
        let hidden = strings(record.get("hiddenReplies"));
        let allow = record.get("allow").and_then(Json::as_array).map(|rules| {
            let mut allow = Allow::default();
            for rule in rules {
                match type_of(rule) {
                    Some("app.bsky.feed.threadgate#mentionRule") => allow.mentioned = true,
                    Some("app.bsky.feed.threadgate#followerRule") => allow.followers = true,
                    Some("app.bsky.feed.threadgate#followingRule") => allow.following = true,
                    Some("app.bsky.feed.threadgate#listRule") => {
                        allow.lists.extend(rule.get("list").and_then(Json::as_str).map(str::to_owned));
                    }
                    _ => {}
                }
            }
            allow
        });
        Self { allow, hidden }
    }
}

impl PostGate {
    /// Of a gate's record.
    pub fn of(record: &Json<'_>) -> Self {
        let rules = record.get("embeddingRules").and_then(Json::as_array).unwrap_or_default();
        let forbids_quotes =
            rules.iter().any(|rule| type_of(rule) == Some("app.bsky.feed.postgate#disableRule"));
        Self { forbids_quotes }
    }
}

/// The DIDs that a post's facets mention, in order.
pub fn mentions(record: &Json<'_>) -> Vec<String> {
    let features = |facet: &Json<'_>| -> Vec<String> {
        let features = facet.get("features").and_then(Json::as_array).unwrap_or_default();
        features
            .iter()
            .filter(|feature| type_of(feature) == Some("app.bsky.richtext.facet#mention"))
            .filter_map(|feature| feature.get("did").and_then(Json::as_str).map(clean))
            .collect()
    };
    let facets = record.get("facets").and_then(Json::as_array).unwrap_or_default();
    facets.iter().flat_map(features).collect()
}

fn images(list: Option<&Json<'_>>, only: Option<&str>) -> Vec<Image> {
    let list = list.and_then(Json::as_array).unwrap_or_default();
    list.iter()
        .enumerate()
        .filter(|(_, image)| only.is_none_or(|kind| type_of(image) == Some(kind)))
        .filter_map(|(at, image)| {
            let cid = clean(blob_cid(image.get("image")?)?);
            let alt = image.get("alt").and_then(Json::as_str).map(clean).unwrap_or_default();
            Some(Image { position: at.to_string(), cid, alt })
        })
        .collect()
}

fn external(card: &Json<'_>) -> Option<External> {
    let text = |key: &str| card.get(key).and_then(Json::as_str).map(clean);
    Some(External {
        uri: text("uri")?,
        title: text("title")?,
        description: text("description")?,
        thumb: card.get("thumb").and_then(blob_cid).map(clean),
    })
}

fn strong_ref(value: &Json<'_>) -> Option<StrongRef> {
    let text = |key: &str| value.get(key).and_then(Json::as_str).map(clean);
    Some(StrongRef { uri: text("uri")?, cid: text("cid")? })
}

fn strings(value: Option<&Json<'_>>) -> Vec<String> {
    let items = value.and_then(Json::as_array).unwrap_or_default();
    items.iter().filter_map(Json::as_str).map(str::to_owned).collect()
}

fn type_of<'a>(value: &'a Json<'_>) -> Option<&'a str> {
    value.get("$type")?.as_str()
}

/// Postgres cannot hold U+0000 (DECISIONS 16).
fn clean(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";

    fn post(embed: &str) -> PostParts {
        let text = format!(r#"{{"embed":{embed}}}"#).replace("CID", CID);
        PostParts::of(&Json::parse(&text).unwrap())
    }

    #[test]
    fn a_record_beside_media() {
        let parts = post(
            r#"{"$type":"app.bsky.embed.recordWithMedia","record":{"record":{"uri":"at://a/b/c","cid":"x"}},
            "media":{"$type":"app.bsky.embed.images","images":[{"alt":"one","image":{"cid":"CID","mimeType":"m"}},
            {"alt":"two","image":{"$type":"blob","ref":{"$link":"CID"},"mimeType":"m","size":1}}]}}"#,
        );
        assert_eq!(parts.record.unwrap().uri, "at://a/b/c");
        let positions: Vec<&str> = parts.images.iter().map(|image| image.position.as_str()).collect();
        assert_eq!((positions, parts.images[1].cid.as_str()), (vec!["0", "1"], CID));
    }

    #[test]
    fn types_are_compared_as_written() {
        let external = r##"{"$type":"app.bsky.embed.external#main","external":{"uri":"u","title":"","description":""}}"##;
        assert_eq!(post(external), PostParts::default());
        assert!(post(&external.replace("#main", "")).external.is_some());
        assert_eq!(post(r#"{"$type":"app.bsky.embed.images","images":[]}"#), PostParts::default());
    }

    #[test]
    fn a_gallery_keeps_the_places_of_its_list() {
        let parts = post(
            r##"{"$type":"app.bsky.embed.gallery","items":[{"$type":"x"},
            {"$type":"app.bsky.embed.gallery#image","alt":"a","image":{"cid":"CID","mimeType":"m"}}]}"##,
        );
        assert_eq!(parts.gallery.iter().map(|image| image.position.as_str()).collect::<Vec<_>>(), ["1"]);
    }

    #[test]
    fn gates() {
        let gate = |text: &str| ThreadGate::of(&Json::parse(text).unwrap());
        assert_eq!(gate("{}").allow, None);
        assert_eq!(gate(r#"{"allow":[{"$type":"other"}]}"#).allow, Some(Allow::default()));
        let rules = r##"{"allow":[{"$type":"app.bsky.feed.threadgate#listRule","list":"at://l"}],"hiddenReplies":["at://h"]}"##;
        let rules = gate(rules);
        assert_eq!(rules.allow.unwrap().lists, ["at://l"]);
        assert_eq!(rules.hidden, ["at://h"]);
        let forbids = |text: &str| PostGate::of(&Json::parse(text).unwrap()).forbids_quotes;
        assert!(forbids(r##"{"embeddingRules":[{"$type":"app.bsky.feed.postgate#disableRule"}]}"##));
        assert!(!forbids("{}"));
    }
}
