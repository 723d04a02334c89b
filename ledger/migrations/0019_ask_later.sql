-- An address that does not answer is asked later, and nothing is said against it: refund_to_retry_at without an error.
alter table jobs drop constraint tried_again_after_an_error;
alter table sessions drop constraint session_tried_again_after_an_error;
alter table jobs add constraint asked_again_where_to check (refund_to_retry_at is null or refund_to is not null);
alter table sessions add constraint session_asked_again_where_to check (refund_to_retry_at is null or refund_to is not null);
