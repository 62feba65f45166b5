//! The HTTP side: routes, JSON answers and the well-known documents.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::routing::get;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::Control;
use super::directory::{Directory, RepoAnswer};
use super::list_repos::ListRepos;
use super::socket;
use super::wrong::{Asked, Asker};

/// Repositories on a page when the request names no limit (the default of the lexicon).
const DEFAULT_LIMIT: usize = 500;

/// What the routes answer from.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) relay: Control,
    pub(super) labeler: Control,
    pub(super) list_repos: ListRepos,
    pub(super) directory: Directory,
    pub(super) url: String,
    pub(super) token: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// Marks a response that is not to be sent: the connection is closed instead.
#[derive(Clone, Debug)]
pub(super) struct Hangup;

impl Hangup {
    pub(super) fn response() -> Response<Body> {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Self);
        response
    }
}

pub(super) fn router(context: Context) -> Router {
    Router::new()
        .route("/xrpc/com.atproto.sync.subscribeRepos", get(subscribe_repos))
        .route("/xrpc/com.atproto.label.subscribeLabels", get(subscribe_labels))
        .route("/xrpc/com.atproto.sync.listRepos", get(list_repos))
        .route("/xrpc/com.atproto.sync.getRepo", get(get_repo))
        .route("/xrpc/com.atproto.sync.getLatestCommit", get(get_latest_commit))
        .route("/xrpc/com.atproto.repo.getRecord", get(get_record))
        .route("/xrpc/com.atproto.identity.resolveHandle", get(resolve_handle))
        .route("/.well-known/atproto-did", get(well_known_did))
        .route("/.well-known/did.json", get(did_web))
        .route("/{did}", get(plc_document))
        .fallback(async || error(404, "NotFound", "no such path"))
        .with_state(context)
}

async fn subscribe_repos(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    socket::subscribe(&context, &context.relay, request)
}

async fn subscribe_labels(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    socket::subscribe(&context, &context.labeler, request)
}

async fn list_repos(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    context.list_repos.note(query);
    let cursor = parameter(query, "cursor");
    let limit = match parameter(query, "limit").map(|limit| limit.parse::<usize>()) {
        None => DEFAULT_LIMIT,
        Some(Ok(limit @ 1..=1000)) => limit,
        Some(_) => return error(400, "InvalidRequest", "limit must be an integer from 1 to 1000"),
    };
    let page = match context.list_repos.page(cursor.as_deref(), limit) {
        Ok(page) => json_response(200, &serde_json::to_value(page).unwrap_or_default()),
        Err((status, name, message)) => return error(status, name, message),
    };
    let from = context.list_repos.begins_at(cursor.as_deref()).unwrap_or_default();
    answer(&context, Asked::Page(from, cursor.as_deref()), request.headers(), page).await
}

/// An answer, or what goes wrong with it.
async fn answer(
    context: &Context,
    asked: Asked<'_>,
    headers: &HeaderMap,
    right: Response<Body>,
) -> Response<Body> {
    match context.directory.wrong(asked, Asker::of(headers)) {
        Some(wrong) => wrong.instead_of(right).await,
        None => right,
    }
}

async fn get_repo(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    let Some(did) = parameter(request.uri().query().unwrap_or_default(), "did") else {
        return error(400, "InvalidRequest", "did is required");
    };
    match context.directory.repo(&did) {
        Some(RepoAnswer::Car(car)) => repository(car),
        Some(RepoAnswer::Error { status, body }) => json_response(status, &body),
        Some(RepoAnswer::Wrong(car, wrong)) => wrong.instead_of(repository(car)).await,
        None => error(400, "RepoNotFound", &format!("Could not find repo for DID: {did}")),
    }
}

fn repository(car: Bytes) -> Response<Body> {
    respond(200, "application/vnd.ipld.car", car)
}

/// Tells whether there is a repository; what its last commit is, is made up.
async fn get_latest_commit(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    let did = parameter(request.uri().query().unwrap_or_default(), "did").unwrap_or_default();
    match context.directory.repo(&did) {
        Some(RepoAnswer::Car(_) | RepoAnswer::Wrong(..)) => json_response(
            200,
            &json!({"cid": "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq", "rev": "3migo7fijwi2k"}),
        ),
        Some(RepoAnswer::Error { status, body }) => json_response(status, &body),
        None => error(400, "RepoNotFound", &format!("Could not find repo for DID: {did}")),
    }
}

/// One record of a repository that is there.
async fn get_record(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let [did, collection, rkey] =
        ["repo", "collection", "rkey"].map(|name| parameter(query, name).unwrap_or_default());
    match context.directory.repo(&did) {
        Some(RepoAnswer::Car(_) | RepoAnswer::Wrong(..)) => {}
        Some(RepoAnswer::Error { status, body }) => return json_response(status, &body),
        None => return error(400, "InvalidRequest", &format!("Could not find repo: {did}")),
    }
    let uri = format!("at://{did}/{collection}/{rkey}");
    match context.directory.record(&uri) {
        Some((cid, value)) => json_response(200, &json!({ "uri": uri, "cid": cid, "value": value })),
        None => error(400, "RecordNotFound", &format!("Could not locate record: {uri}")),
    }
}

async fn resolve_handle(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    context.directory.awake().await;
    if let Some(status) = context.directory.failing() {
        return error(status, "InternalServerError", "the directory fails");
    }
    let handle = parameter(request.uri().query().unwrap_or_default(), "handle").unwrap_or_default();
    let right = match context.directory.handle(&handle) {
        Some(did) => json_response(200, &json!({ "did": did })),
        None => error(400, "InvalidRequest", "Unable to resolve handle"),
    };
    answer(&context, Asked::Handle(&handle), request.headers(), right).await
}

async fn well_known_did(State(context): State<Context>, headers: HeaderMap) -> Response<Body> {
    context.directory.awake().await;
    if let Some(status) = context.directory.failing() {
        return respond(status, "text/plain", Bytes::from_static(b"the directory fails"));
    }
    let host = host(&headers);
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let right = match context.directory.handle(name) {
        Some(did) => respond(200, "text/plain", did.into()),
        None => respond(404, "text/plain", Bytes::from_static(b"User not found")),
    };
    answer(&context, Asked::Handle(name), &headers, right).await
}

async fn did_web(State(context): State<Context>, headers: HeaderMap) -> Response<Body> {
    document(&context, &format!("did:web:{}", host(&headers).replace(':', "%3A")), &headers).await
}

async fn plc_document(
    State(context): State<Context>,
    Path(did): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    document(&context, &did, &headers).await
}

async fn document(context: &Context, did: &str, headers: &HeaderMap) -> Response<Body> {
    context.directory.note(did);
    context.directory.awake().await;
    if let Some(status) = context.directory.failing() {
        return json_response(status, &json!({ "message": "the directory fails" }));
    }
    let right = match context.directory.document(did, &context.url) {
        Some(document) => json_response(200, &document),
        None => json_response(404, &json!({ "message": format!("DID not registered: {did}") })),
    };
    answer(context, Asked::Document(did), headers, right).await
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// The first value of a query parameter, percent-decoded.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent_decode(value))
    };
    query.split('&').find_map(pair)
}

fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let hex = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16));
        match (byte, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                bytes = ahead;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An XRPC error.
pub(super) fn error(status: u16, name: &str, message: &str) -> Response<Body> {
    json_response(status, &json!({ "error": name, "message": message }))
}

fn json_response(status: u16, body: &Value) -> Response<Body> {
    respond(status, "application/json; charset=utf-8", body.to_string().into())
}

pub(super) fn respond(status: u16, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = "limit=3&cursor=17%3A%3Adid%3aplc%3Ax+y&bad=%zz%4";
        assert_eq!(parameter(query, "cursor").as_deref(), Some("17::did:plc:x y"));
        assert_eq!(parameter(query, "bad").as_deref(), Some("%zz%4"));
        assert_eq!(parameter(query, "limit").as_deref(), Some("3"));
        assert_eq!(parameter(query, "absent"), None);
    }
}
