-- name: failures
select subject, failures, extract(epoch from now() - last_failed_at)::float8 as since_s
from work_failures
where kind in ('address', 'identity') and subject = any($1::text[]) and last_failed_at > now() - interval '1 day'

-- name: count_failure
-- Sorted, so that two failures of one buyer can not deadlock. Older than a day is forgotten.
insert into work_failures as known (kind, subject, failures)
select kind, subject, 1 from unnest($1::text[], $2::text[]) as failed (kind, subject) order by kind, subject
on conflict (kind, subject) do update set
    failures = case when known.last_failed_at < now() - interval '1 day' then 1 else known.failures + 1 end,
    last_failed_at = now()

-- name: lock_failures
-- In the order of count_failure, so that the two can not deadlock.
select from work_failures known join unnest($1::text[], $2::text[]) as done (kind, subject) using (kind, subject)
order by known.kind, known.subject for update of known

-- name: count_success
with forgotten as (
    delete from work_failures known using unnest($1::text[], $2::text[]) as done (kind, subject)
    where known.kind = done.kind and known.subject = done.subject and known.failures = 1
)
update work_failures known set failures = known.failures / 2
from unnest($1::text[], $2::text[]) as done (kind, subject)
where known.kind = done.kind and known.subject = done.subject and known.failures > 1
