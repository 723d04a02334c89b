-- What a single statement must not do by halves: it says what, and all of it is undone.
create function must_hold(what text, holds boolean) returns boolean language plpgsql as $$
begin
    if holds is not true then
        raise exception '%', what using errcode = 'check_violation';
    end if;
    return true;
end
$$;

-- The number of a run is nobody's business but the queue's: who watches a job is not woken for it.
drop trigger jobs_changed on jobs;
create trigger jobs_changed after update on jobs
    for each row when (old.updated_at is distinct from new.updated_at) execute function tell_job_changed();
