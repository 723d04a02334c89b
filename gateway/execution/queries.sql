-- name: orphan_evaluations
-- Being evaluated, and nothing in the queue will ask the evaluator.
select job.id from jobs job
where job.state = 'evaluating' and job.updated_at < now() - interval '5 seconds' and not exists (
    select from pgqueuer task
    where task.dedupe_key = 'eval:' || job.id and task.status in ('queued', 'picked'))
order by job.id
for no key update of job skip locked

-- name: orphans
-- Executing, and nothing in the queue will run it. Locked, so that a job that ends meanwhile is left alone.
select job.id from jobs job
where job.state = 'executing' and job.updated_at < now() - interval '5 seconds' and not exists (
    select from pgqueuer task
    where task.dedupe_key = 'job:' || job.id and task.status in ('queued', 'picked'))
order by job.id
for no key update of job skip locked

-- name: record_ends
-- What ended, out of the queue and into its log, as the queue's library writes it; but only rows that the queue manager
-- still holds: what another one has taken over is that one's to end.
with ended as (
    select * from unnest($1::bigint[], $2::pgqueuer_status[], $3::jsonb[], $4::uuid[])
        as ended (id, status, traceback, queue_manager_id)
), deleted as (
    delete from pgqueuer task using ended
    where task.id = any($1) and task.id = ended.id and task.queue_manager_id = ended.queue_manager_id
        and ended.status <> 'failed'
    returning task.id, ended.status, task.entrypoint, task.priority, ended.traceback
), held as (
    update pgqueuer task set status = 'failed', updated = now(), queue_manager_id = null from ended
    where task.id = any($1) and task.id = ended.id and task.queue_manager_id = ended.queue_manager_id
        and ended.status = 'failed'
    returning task.id, ended.status, task.entrypoint, task.priority, ended.traceback
)
insert into pgqueuer_log (job_id, status, entrypoint, priority, traceback)
select * from deleted union all select * from held

-- name: retry_task
-- Queued again, as the queue's library does it; but only by the queue manager that still holds it.
with retried as (
    update pgqueuer set status = 'queued', execute_after = now() + $2::interval, attempts = attempts + 1,
        updated = now(), queue_manager_id = null
    where id = $1 and queue_manager_id = $4
    returning id, entrypoint, priority
)
insert into pgqueuer_log (job_id, status, entrypoint, priority, traceback)
select id, 'queued', entrypoint, priority, $3::jsonb from retried

-- name: send_heartbeats
-- A run that is late does not keep alive the row of the one that has taken over.
update pgqueuer set heartbeat = now() where id = any($1::bigint[]) and queue_manager_id = $2

-- name: with_tasks
-- One live task for the work of each job in `begun` (id), written as the queue's library writes it: a test compares.
queued as (
    insert into pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, headers, status)
    select 0, 'work', convert_to('job:' || id, 'UTF8'), now(), 'job:' || id, 'null', 'queued' from begun order by id
    on conflict (dedupe_key) where status in ('queued', 'picked') and dedupe_key is not null do nothing
    returning id, entrypoint, priority
), logged as (
    insert into pgqueuer_log (job_id, status, entrypoint, priority)
    select id, 'queued', entrypoint, priority from queued
)
