#!/usr/bin/env escript
%%! -noinput
%% Runs the scenarios of a file (see traces.txt) under Erlang/OTP's own supervisor, and prints them
%% again with what was observed behind each step.
%%
%% Nothing here waits for time: a step is over when the supervisor has dealt with the ends that the
%% step caused, and time passes by making the restarts older that the supervisor remembers.

-mode(compile).
-export([main/1, init/1, start_child/2, child/2]).

main([File]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    {ok, Text} = file:read_file(File),
    Lines = string:split(binary_to_list(Text), "\n", all),
    run([string:trim(Line) || Line <- Lines, string:trim(Line) =/= ""]).

run([]) ->
    ok;
run(["scenario " ++ _ = Header | Lines]) ->
    {Steps, Rest} = lists:splitwith(fun(Line) -> not lists:prefix("scenario ", Line) end, Lines),
    io:format("~ts~n", [Header]),
    scenario(Header, Steps),
    run(Rest).

scenario(Header, Steps) ->
    ["scenario", _Number, Strategy, Intensity | Types] = string:lexemes(Header, " "),
    [Restarts, Period] = string:lexemes(Intensity, "/s"),
    Log = ets:new(log, [ordered_set, public]),
    Flags = #{strategy => strategy(Strategy),
              intensity => list_to_integer(Restarts),
              period => list_to_integer(Period)},
    Ids = lists:seq(0, length(Types) - 1),
    Specs = [spec(Log, Id, Type) || {Id, Type} <- lists:zip(Ids, Types)],
    {ok, Supervisor} = supervisor:start_link(?MODULE, {Flags, Specs}),
    unlink(Supervisor),
    ets:delete_all_objects(Log),
    lists:foldl(fun(Step, Next) -> step(Supervisor, Log, Step, Next) end, length(Types), Steps),
    is_process_alive(Supervisor) andalso gen_server:stop(Supervisor, shutdown, infinity),
    ets:delete(Log).

%% Does one step and prints it. Returns the number of the next child that is added.
step(Supervisor, Log, Step, Next) ->
    Before = is_process_alive(Supervisor),
    After = case Before of
        true -> do(string:lexemes(Step, " "), Supervisor, Log, Next);
        false -> length([x || "add " ++ _ <- [Step]]) + Next
    end,
    Seen = [Word || {_, Word} <- ets:tab2list(Log)],
    ets:delete_all_objects(Log),
    Ended = ["give up" || Before, not is_process_alive(Supervisor)],
    Outcome = lists:join(", ", Seen ++ Ended),
    io:format("~ts~n", [string:trim(["  ", Step, " -> ", Outcome], trailing)]),
    After.

do(["pass", Seconds], Supervisor, _Log, Next) ->
    pass(Supervisor, list_to_integer(lists:droplast(Seconds))),
    Next;
do(["add", Type], Supervisor, Log, Next) ->
    {ok, _} = supervisor:start_child(Supervisor, spec(Log, Next, Type)),
    Next + 1;
do(["stop", Id], Supervisor, _Log, Next) ->
    %% What a user stopped never comes back, so it is deleted as well. A temporary child is
    %% deleted by itself.
    _ = supervisor:terminate_child(Supervisor, list_to_integer(Id)),
    _ = supervisor:delete_child(Supervisor, list_to_integer(Id)),
    Next;
do(Words, Supervisor, _Log, Next) ->
    Running = [{Pid, reason(Word)} || {Word, Id} <- ends(Words),
                                      {Known, Pid, _, _} <- supervisor:which_children(Supervisor),
                                      Known =:= Id, is_pid(Pid)],
    end_together(Supervisor, Running),
    [settle(Supervisor, Pid) || {Pid, _} <- Running],
    Next.

ends([Word, Id]) -> [{Word, list_to_integer(Id)}];
ends([Word, Id, "+" | Rest]) -> [{Word, list_to_integer(Id)} | ends(Rest)].

reason("fail") -> failed;
reason("end") -> normal.

%% Ends the processes while the supervisor does not look, so that it finds all ends at once, in
%% this order.
end_together(Supervisor, Running) ->
    ok = sys:suspend(Supervisor),
    Numbered = lists:zip(lists:seq(1, length(Running)), Running),
    [begin
        Monitor = monitor(process, Pid),
        Pid ! {end_with, Reason},
        receive {'DOWN', Monitor, process, Pid, _} -> ok end,
        until(fun() -> process_info(Supervisor, message_queue_len) =:= {message_queue_len, Count} end)
     end || {Count, {Pid, Reason}} <- Numbered],
    ok = sys:resume(Supervisor).

%% Returns when the supervisor has dealt with the end of that process, or has ended.
settle(Supervisor, Pid) ->
    Knows = fun() ->
        try lists:keymember(Pid, 2, supervisor:which_children(Supervisor))
        catch exit:_ -> true
        end
    end,
    Monitor = monitor(process, Supervisor),
    until(fun() ->
        receive {'DOWN', Monitor, process, Supervisor, _} -> true
        after 0 -> not Knows()
        end
    end),
    demonitor(Monitor, [flush]).

until(Condition) ->
    case Condition() of
        true -> ok;
        false -> erlang:yield(), until(Condition)
    end.

%% The supervisor's state is the record `state`, with the seconds of its restarts as eighth element.
pass(Supervisor, Seconds) ->
    sys:replace_state(Supervisor, fun(State) when element(1, State) =:= state ->
        Restarts = [Second - Seconds || Second <- element(8, State), is_integer(Second)],
        setelement(8, State, Restarts)
    end).

strategy("one-for-one") -> one_for_one;
strategy("one-for-all") -> one_for_all;
strategy("rest-for-one") -> rest_for_one.

spec(Log, Id, Type) ->
    #{id => Id, start => {?MODULE, start_child, [Log, Id]}, restart => list_to_existing_atom(Type)}.

init(Supervisor) ->
    {ok, Supervisor}.

start_child(Log, Id) ->
    proc_lib:start_link(?MODULE, child, [Log, Id]).

child(Log, Id) ->
    process_flag(trap_exit, true),
    note(Log, "start", Id),
    proc_lib:init_ack({ok, self()}),
    receive
        {end_with, Reason} ->
            exit(Reason);
        {'EXIT', _Supervisor, shutdown} ->
            note(Log, "stop", Id),
            exit(shutdown)
    end.

%% Numbers grow in causal order, whichever process takes them.
note(Log, Word, Id) ->
    ets:insert(Log, {erlang:unique_integer([monotonic]), io_lib:format("~s ~b", [Word, Id])}).
