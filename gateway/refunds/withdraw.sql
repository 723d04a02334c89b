-- name: usable
-- Shown again as long as most of its time is left, so that a page that is drawn anew shows the same code.
select id, expires_at from lnurl_withdrawals
where job_id = $1 and used_at is null and expires_at > now() + make_interval(secs => $2)
order by expires_at desc limit 1

-- name: insert
insert into lnurl_withdrawals (id, k1_hash, job_id, session_id, expires_at)
values ($1, $2, $3, (select id from sessions where id = $3), now() + make_interval(secs => $4)) returning expires_at

-- name: of_k1
select job_id, used_at is not null as is_used, expires_at <= now() as is_expired
from lnurl_withdrawals where k1_hash = $1

-- name: use_up
-- Guarded, in the claim's own transaction and after the lock of the job: one claim per code.
update lnurl_withdrawals set used_at = now()
where k1_hash = $1 and job_id = $2 and used_at is null and expires_at > now() returning true

-- name: is_under_way
select exists (select from refund_attempts where job_id = $1
               and (state = 'frozen' or (state = 'unfinished' and (sends = 0 or sends > failed_sends))
                    or lease_until > now()))

-- name: forget_old
delete from lnurl_withdrawals where expires_at < now() - interval '7 days'
