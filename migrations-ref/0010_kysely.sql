-- The state of the TypeScript AppView's own migrator (Kysely): all migrations of this generation as executed, so that
-- its data plane starts on this database and finds nothing to do. Without these rows it would try to create the
-- tables again and fail.

create table kysely_migration (
    name varchar(255) not null,
    timestamp varchar(255) not null,
    constraint kysely_migration_pkey primary key (name)
);

-- The migrator adds the one row of this table itself.
create table kysely_migration_lock (
    id varchar(255) not null,
    is_locked integer not null default 0,
    constraint kysely_migration_lock_pkey primary key (id)
);

-- The migrator orders executed migrations by their time: here the time in the name, which puts them in the order of
-- their names.
insert into kysely_migration (name, timestamp)
select
    name,
    regexp_replace(name, '^_(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z$', '\1-\2-\3T\4:\5:\6.\7Z')
from unnest(array[
    '_20230309T045948368Z', '_20230408T152211201Z', '_20230417T210628672Z', '_20230420T211446071Z',
    '_20230427T194702079Z', '_20230605T144730094Z', '_20230607T211442112Z', '_20230608T155101190Z',
    '_20230608T201813132Z', '_20230608T205147239Z', '_20230609T153623961Z', '_20230609T232122649Z',
    '_20230610T203555962Z', '_20230611T215300060Z', '_20230620T161134972Z', '_20230627T212437895Z',
    '_20230629T220835893Z', '_20230703T045536691Z', '_20230720T164800037Z', '_20230807T035309811Z',
    '_20230808T172902639Z', '_20230810T203349843Z', '_20230817T195936007Z', '_20230830T205507322Z',
    '_20230904T211011773Z', '_20230906T222220386Z', '_20230920T213858047Z', '_20230929T192920807Z',
    '_20231003T202833377Z', '_20231220T225126090Z', '_20240124T023719200Z', '_20240226T225725627Z',
    '_20240530T170337073Z', '_20240606T171229898Z', '_20240606T222548219Z', '_20240719T203853939Z',
    '_20240723T220700077Z', '_20240723T220703655Z', '_20240801T193939827Z', '_20240808T224251220Z',
    '_20240829T211238293Z', '_20240831T134810923Z', '_20241114T153108102Z', '_20250116T222618297Z',
    '_20250207T174822012Z', '_20250404T163421487Z', '_20250526T023712742Z', '_20250528T221913281Z',
    '_20250602T190357447Z', '_20250611T140649895Z', '_20250627T025331240Z', '_20250812T183735692Z',
    '_20250813T174955711Z', '_20251009T040222812Z'
]) as executed (name);
