-- A session's page shows its newest request.
create index session_requests_of_session on session_requests (session_id, created_at desc, id desc);
